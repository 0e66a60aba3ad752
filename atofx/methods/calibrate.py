"""From scores to a mask that meets a FLOPs target exactly: one threshold, found by bisection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atofx.errors import ConfigError
from atofx.ir.groups import Group
from atofx.ir.limits import NO_LIMITS, Limits, nearest
from atofx.ir.mask import Mask
from atofx.methods.counts import CountProblem, meet_target
from atofx.methods.selection import UnitSpace
from atofx.methods.targets import unreachable

if TYPE_CHECKING:
    from atofx.program import Program

TOLERANCE = 0.01


@dataclass(frozen=True)
class Calibrated:
    """A mask and what it costs.

    Attributes:
        mask: over all prunable groups.
        flops: exact FLOPs (multiply-adds counted once) of the compact model.
        fraction: ``flops`` over those of the dense model.
        offset: the one number subtracted from every score; units above zero stay.
    """

    mask: Mask
    flops: int
    fraction: float
    offset: float


def calibrate(
    program: Program,
    groups: Sequence[Group],
    scores: Mapping[str, torch.Tensor],
    flops: float,
    *,
    tolerance: float = TOLERANCE,
    limits: Limits = NO_LIMITS,
    gone: Mapping[str, torch.Tensor] | None = None,
    warn_beyond: float | None = None,
) -> Calibrated:
    """The mask within the limits whose kept FLOPs are nearest to ``flops`` of the whole model.

    Every unit is compared with one common offset, found by bisection; of each group the nearest allowed number of its
    best-scored units stays. Where one step more or less jumps across the target (narrow models, coarse rounding), the
    fewest units are added or dropped that meet the target.

    Args:
        program: the traced model.
        groups: the groups that may be pruned; all others are kept whole.
        scores: importance of each unit by group name, comparable across groups; higher stays longer.
        flops: wanted kept fraction of the whole model's FLOPs.
        tolerance: relative; a mask within it ends the search.
        limits: minimum widths and rounding.
        gone: by group name, units (True) that are zero already and never come back.
        warn_beyond: relative; a miss beyond it is warned about. None: beyond the tolerance.

    Raises:
        TargetError: even the smallest mask has more FLOPs; the message says what the least is.
        ConfigError: a score is NaN, or the limits name a group that there is not.
    """
    ranking = _Ranking(program, groups, scores, limits, gone or {})
    wanted = flops * ranking.total
    problem = CountProblem(ranking.allowed, ranking.price, wanted, tolerance * wanted)
    least = ranking.price_of(ranking.counts(0))
    if groups and least > wanted + problem.slack:
        raise unreachable(flops, least, ranking.total, limits)
    low, high = 0, len(ranking.order)
    while high - low > 1:
        middle = (low + high) // 2
        if ranking.price_of(ranking.counts(middle)) <= wanted:
            low = middle
        else:
            high = middle
    ends = torch.stack([ranking.counts(level) for level in (high, low)])
    ends = ends[problem.miss(ends).argsort(stable=True)]
    met = not groups or float(problem.excess(ends[:1])) == 0
    counts = ends[0] if met else meet_target(problem, ends)
    return _answer(ranking, counts, wanted, tolerance if warn_beyond is None else warn_beyond, limits)


class _Ranking:
    """Masks as counts of kept units per group: the best ones of each."""

    def __init__(
        self,
        program: Program,
        groups: Sequence[Group],
        scores: Mapping[str, torch.Tensor],
        limits: Limits,
        gone: Mapping[str, torch.Tensor],
    ) -> None:
        self.program = program
        self.groups = tuple(groups)
        self.total = int(program.flops())
        allowed = limits.allowed_counts(program.prunable)
        self.allowed = tuple(at_most_left(allowed[group.name], gone.get(group.name)) for group in groups)
        self.space = UnitSpace(groups)
        self.scores = self.space.join({name: score.detach().double().cpu() for name, score in scores.items()})
        for name, part in self.space.split(self.scores).items():
            if name in gone:
                part[gone[name].cpu()] = -torch.inf
        if bool(self.scores.isnan().any()):
            raise ConfigError("scores contain NaN; the model has diverged or a criterion divides by zero")
        ranking = torch.argsort(self.scores, descending=True, stable=True)
        self.order = self.space.owner[ranking]
        self.ranked = self.scores[ranking]
        self._all = torch.tensor([group.size for group in program.prunable], dtype=torch.long)
        chosen = {group.name for group in groups}
        self._columns = torch.tensor([g.name in chosen for g in program.prunable], dtype=torch.bool).nonzero().flatten()

    def counts(self, level: int) -> torch.Tensor:
        """Kept units per group when the ``level`` best-scored units of all stay, as near as is allowed."""
        kept = torch.bincount(self.order[:level], minlength=len(self.groups))
        found = [nearest(allowed, count) for allowed, count in zip(self.allowed, kept, strict=True)]
        return torch.stack(found) if found else torch.zeros(0, dtype=torch.long)

    def price(self, counts: torch.Tensor) -> torch.Tensor:
        """FLOPs of each row of counts."""
        full = self._all.repeat(len(counts), 1)
        full[:, self._columns] = counts
        return self.program.flops_by_counts(full)

    def price_of(self, counts: torch.Tensor) -> int:
        """FLOPs of one vector of counts."""
        return int(self.price(counts[None]))

    def mask(self, counts: torch.Tensor) -> Mask:
        """The best-scored units of each group."""
        keep = torch.zeros(self.space.total, dtype=torch.bool)
        parts = self.space.split(self.scores).values()
        for offset, scores, count in zip(self.space.offsets, parts, counts.tolist(), strict=True):
            keep[offset + torch.argsort(scores, descending=True, stable=True)[:count]] = True
        return self.space.mask(self.program, keep)


def at_most_left(allowed: torch.Tensor, gone: torch.Tensor | None) -> torch.Tensor:
    """The allowed numbers of kept units that are left to a group some units of which are gone for good.

    Args:
        allowed: int64, rising; the last is the group's size.
        gone: BoolTensor (size,), or None.

    Returns:
        Those up to the number of units left; the smallest if none is.
    """
    if gone is None:
        return allowed
    left = allowed[allowed <= int((~gone).sum())]
    return left if len(left) else allowed[:1]


def _answer(ranking: _Ranking, counts: torch.Tensor, wanted: float, warn_beyond: float, limits: Limits) -> Calibrated:
    mask = ranking.mask(counts)
    flops = int(ranking.program.flops(mask))
    if abs(flops - wanted) > warn_beyond * wanted:
        step = "a single unit" if limits == NO_LIMITS else "a single step that the limits allow"
        warnings.warn(
            f"the nearest mask keeps {flops / ranking.total:.4f} of the FLOPs for a target of "
            f"{wanted / ranking.total:.4f}: {step} more or less is worth more than the tolerance",
            stacklevel=3,
        )
    level = min(int(counts.sum()), len(ranking.ranked) - 1)
    offset = float(ranking.ranked[level]) if len(ranking.ranked) else 0.0
    return Calibrated(mask, flops, flops / ranking.total, offset)
