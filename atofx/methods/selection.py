"""Which prunable groups a method ranges over, and the flat vector of all their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

import torch

from atofx.errors import ConfigError
from atofx.ir.groups import Group
from atofx.ir.mask import Mask

if TYPE_CHECKING:
    from atofx.program import Program

GroupFilter: TypeAlias = Callable[[Group], bool] | Sequence[str] | None
"""None for every prunable group, a predicate, or ``fnmatch`` patterns on ``Group.name``."""


def select(program: Program, groups: GroupFilter = None) -> tuple[Group, ...]:
    """The prunable groups that ``groups`` names, in the program's order.

    Raises:
        ConfigError: a pattern matches no prunable group.
    """
    prunable = tuple(program.prunable)
    if groups is None:
        return prunable
    if callable(groups):
        return tuple(group for group in prunable if groups(group))
    patterns = (groups,) if isinstance(groups, str) else tuple(groups)
    names = [group.name for group in prunable]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=1, cutoff=0.0)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise ConfigError(f"no prunable group matches {pattern!r}{hint}; program.summary() lists all groups")
    return tuple(group for group in prunable if any(fnmatchcase(group.name, pattern) for pattern in patterns))


class UnitSpace:
    """All units of the chosen groups laid end to end, so that per-unit work is one tensor operation.

    Attributes:
        groups: the chosen groups.
        total: number of units in all of them.
        offsets: first position of each group in the flat vector.
        owner: LongTensor (total,); index of the group each unit belongs to.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self.sizes = [group.size for group in self.groups]
        self.total = sum(self.sizes)
        self.offsets = [0, *accumulate(self.sizes)][:-1]
        self.owner = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes, dtype=torch.long))

    def split(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """A flat vector of all units as one vector a group."""
        parts = torch.split(flat, self.sizes) if self.groups else ()
        return {group.name: part for group, part in zip(self.groups, parts, strict=True)}

    def join(self, vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """One vector a group as a flat vector of all units."""
        if not self.groups:
            return torch.zeros(0)
        return torch.cat([vectors[group.name] for group in self.groups])

    def mask(self, program: Program, keep: torch.Tensor) -> Mask:
        """The program's mask with ``keep`` (boolean, all units) on the chosen groups and everything else kept."""
        return Mask({**program.full_mask(), **self.split(keep)})

    def rescue(self, keep: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``keep`` with the best-scored unit added to every group that would end empty."""
        rescued = keep.clone()
        for kept, score in zip(self.split(rescued).values(), self.split(scores).values(), strict=True):
            if not bool(kept.any()):
                kept[int(score.argmax())] = True
        return rescued


def soft_flops(program: Program, space: UnitSpace, flat: torch.Tensor) -> torch.Tensor:
    """FLOPs (multiply-adds counted once) for a soft mask over the chosen groups; differentiable, float64."""
    vectors: dict[str, torch.Tensor] = {name: keep.to(flat.dtype) for name, keep in program.full_mask().items()}
    vectors.update(space.split(flat))
    return torch.as_tensor(program.flops(vectors), dtype=torch.float64)
