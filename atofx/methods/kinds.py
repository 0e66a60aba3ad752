"""Kinds of groups that HSPG treats differently: their epsilon, and how many of their units may become zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from atofx.errors import ConfigError
from atofx.ir.patterns import covers, require_match
from atofx.methods.half_space import EPSILON_MOST
from atofx.methods.selection import UnitSpace


@dataclass(frozen=True)
class Kind:
    """How a kind of groups is projected.

    Attributes:
        epsilon: of the half-space test, in [0, 1): larger projects more.
        cap: upper group sparsity: largest share of the kind's units that may become zero, over all its groups.
        adaptive: whether epsilon grows while the kind's sparsity does not.
    """

    epsilon: float = 0.0
    cap: float = 1.0
    adaptive: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= EPSILON_MOST:
            raise ConfigError(f"epsilon={self.epsilon} is not in [0, {EPSILON_MOST}]")
        if not 0 <= self.cap <= 1:
            raise ConfigError(f"cap={self.cap} is not a share of units in [0, 1]")


class Kinds:
    """Every unit's kind.

    Args:
        space: the units.
        default: the kind of groups that no pattern covers.
        named: by pattern on group names; of several that cover a group, the last holds.

    Attributes:
        names: of the kinds: their patterns, after that of the default.
        owner: LongTensor (units,); position of each unit's kind.
        epsilon, cap: float64 (kinds,).
        adaptive: BoolTensor (kinds,).
        sizes: LongTensor (kinds,); number of units.

    Raises:
        ConfigError: a pattern covers no prunable group.
    """

    def __init__(self, space: UnitSpace, default: Kind, named: Mapping[str, Kind], device: torch.device) -> None:
        names = [group.name for group in space.groups]
        for pattern in named:
            require_match(pattern, names, "prunable group (kinds)")
        patterns = list(named)
        kinds = [default, *named.values()]
        self.names = ("all others" if patterns else "all", *patterns)
        position = [max((i + 1 for i, p in enumerate(patterns) if covers(p, name)), default=0) for name in names]
        owner = torch.tensor(position, dtype=torch.long)[space.owner]
        self.count = len(kinds)
        self.owner = owner.to(device)
        self.sizes = torch.bincount(owner, minlength=self.count).to(device)
        self.epsilon = torch.tensor([kind.epsilon for kind in kinds], dtype=torch.float64, device=device)
        self.cap = torch.tensor([kind.cap for kind in kinds], dtype=torch.float64, device=device)
        self.adaptive = torch.tensor([kind.adaptive for kind in kinds], dtype=torch.bool, device=device)

    def zeros(self, gone: torch.Tensor) -> torch.Tensor:
        """Units of each kind that are ``gone``, LongTensor (kinds,)."""
        return torch.bincount(self.owner[gone], minlength=self.count)

    def sparsity(self, gone: torch.Tensor) -> torch.Tensor:
        """Share of each kind's units that are ``gone``, float64 (kinds,)."""
        return self.zeros(gone) / self.sizes.clamp(min=1).double()

    def room(self, gone: torch.Tensor) -> torch.Tensor:
        """Units of each kind that may still go, LongTensor (kinds,): ``floor(cap N) - zeros``."""
        return (self.cap * self.sizes + 1e-9).floor().long() - self.zeros(gone)
