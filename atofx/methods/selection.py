"""Which prunable groups a method ranges over, and the flat vector of all their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

import torch

from atofx.ir.groups import Group
from atofx.ir.limits import nearest
from atofx.ir.mask import Mask
from atofx.ir.patterns import as_patterns, covers, require_match

if TYPE_CHECKING:
    from atofx.program import Program

GroupFilter: TypeAlias = Callable[[Group], bool] | Sequence[str] | None
"""None for every prunable group, a predicate, or patterns on ``Group.name``."""


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
    patterns = as_patterns(groups, "groups")
    for pattern in patterns:
        require_match(pattern, [group.name for group in prunable], "prunable group")
    return tuple(group for group in prunable if any(covers(pattern, group.name) for pattern in patterns))


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

    def within(self, keep: torch.Tensor, scores: torch.Tensor, allowed: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """``keep`` with the nearest allowed number of units in every group.

        Best-scored units come back where too few are kept, worst-scored ones go where there are too many.

        Args:
            keep: boolean, all units.
            scores: of all units; a group's ranking.
            allowed: by group name, the allowed numbers (:meth:`Limits.allowed_counts`).
        """
        legal = keep.clone()
        for name, kept in self.split(legal).items():
            count = kept.sum()
            wanted = nearest(allowed[name], count)
            if wanted != count:
                first = torch.argsort(self.split(scores)[name], descending=True, stable=True)
                first = first[torch.argsort(kept[first].int(), descending=True, stable=True)]
                kept.zero_()
                kept[first[: int(wanted)]] = True
        return legal


def soft_flops(program: Program, space: UnitSpace, flat: torch.Tensor) -> torch.Tensor:
    """FLOPs (multiply-adds counted once) for a soft mask over the chosen groups; differentiable, float64."""
    vectors: dict[str, torch.Tensor] = {name: keep.to(flat.dtype) for name, keep in program.full_mask().items()}
    vectors.update(space.split(flat))
    return torch.as_tensor(program.flops(vectors), dtype=torch.float64)
