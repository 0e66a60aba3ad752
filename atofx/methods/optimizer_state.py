"""The state of any ``torch.optim.Optimizer`` as a flat dictionary of tensors and text, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from atofx.errors import ConfigError
from atofx.methods.protocol import StateValue

_STATE, _TENSOR_OPTION, _OPTIONS = "base.state.", "base.option.", "base.options"


def flat_state(optimizer: torch.optim.Optimizer) -> dict[str, StateValue]:
    """Slots as ``base.state.PARAMETER.SLOT``; options of the parameter groups as JSON, tensors among them on their own.

    Raises:
        ConfigError: a slot holds something else than a tensor or a number, as LBFGS has it.
    """
    whole = optimizer.state_dict()
    flat: dict[str, StateValue] = {}
    for index, slots in whole["state"].items():
        for slot, value in slots.items():
            if value is None:
                continue
            if not isinstance(value, (torch.Tensor, int, float)):
                what = f"{slot!r} of {type(optimizer).__name__} is a {type(value).__name__}"
                raise ConfigError(f"cannot save the optimizer's state flat: {what}, not a tensor or a number")
            flat[f"{_STATE}{index}.{slot}"] = value.clone() if isinstance(value, torch.Tensor) else value
    plain: list[dict[str, Any]] = []
    for number, options in enumerate(whole["param_groups"]):
        tensors = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}
        flat.update({f"{_TENSOR_OPTION}{number}.{name}": value.clone() for name, value in tensors.items()})
        plain.append({name: value for name, value in options.items() if name not in tensors})
    flat[_OPTIONS] = json.dumps(plain)
    return flat


def load_flat_state(optimizer: torch.optim.Optimizer, flat: Mapping[str, StateValue]) -> None:
    """Continue from :func:`flat_state`.

    Raises:
        ConfigError: it is not there.
        ValueError: it was made for other parameters (torch's own message).
    """
    text = flat.get(_OPTIONS)
    if not isinstance(text, str):
        raise ConfigError("the state holds no optimizer; it was not saved by state_dict of this optimizer")
    groups: list[dict[str, Any]] = json.loads(text)
    slots: dict[int, dict[str, Any]] = {}
    for name, value in flat.items():
        if name.startswith(_STATE):
            index, slot = name.removeprefix(_STATE).split(".", 1)
            slots.setdefault(int(index), {})[slot] = value.clone() if isinstance(value, torch.Tensor) else value
        elif name.startswith(_TENSOR_OPTION):
            number, option = name.removeprefix(_TENSOR_OPTION).split(".", 1)
            groups[int(number)][option] = value
    for mine, options in zip(optimizer.param_groups, groups, strict=False):
        for name, value in options.items():
            if isinstance(value, list) and name != "params" and isinstance(mine.get(name), tuple):
                options[name] = tuple(value)  # JSON knows no tuples; Adam's betas are one
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
