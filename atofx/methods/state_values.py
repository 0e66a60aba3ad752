"""Reading what a method's state dict must hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from atofx.errors import ConfigError
from atofx.methods.protocol import StateValue


def number(state: Mapping[str, StateValue], name: str) -> float:
    """A number of a state.

    Raises:
        ConfigError: it is not there.
    """
    value = state.get(name)
    if not isinstance(value, (int, float)):
        raise ConfigError(f"the state holds no number {name!r}; it was not saved by state_dict of this method")
    return float(value)


def under(state: Mapping[str, StateValue], prefix: str) -> dict[str, StateValue]:
    """The part of a flat state whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def tensor(state: Mapping[str, StateValue], name: str) -> torch.Tensor:
    """A tensor of a state.

    Raises:
        ConfigError: it is not there.
    """
    value = state.get(name)
    if not isinstance(value, torch.Tensor):
        raise ConfigError(f"the state holds no tensor {name!r}; it was not saved by state_dict of this method")
    return value
