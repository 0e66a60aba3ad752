"""A ``torch.optim.Optimizer`` around another one: schedulers, scalers and ``zero_grad`` see the inner one's groups."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch


class OptimizerWrapper(torch.optim.Optimizer):
    """Parameter groups, state and defaults are those of ``base``, the same objects; a subclass writes ``step``.

    Args:
        base: the optimizer inside.
    """

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        state, options = base.state, base.param_groups
        super().__init__(list(options), base.defaults)
        base.state, base.param_groups = state, options  # the line above began new ones

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the base optimizer."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> defaultdict[torch.Tensor, Any]:
        """That of the base optimizer."""
        return self.base.state

    @state.setter
    def state(self, state: defaultdict[torch.Tensor, Any]) -> None:
        self.base.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """Those of the base optimizer."""
        return self.base.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.base.defaults = defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the base optimizer."""
        self.base.add_param_group(param_group)
