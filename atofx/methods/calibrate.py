"""From scores to a mask that meets a FLOPs target exactly: one threshold, found by bisection."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import TYPE_CHECKING

import torch

from atofx.errors import ConfigError, TargetError
from atofx.ir.groups import Group
from atofx.ir.mask import Mask
from atofx.methods.selection import UnitSpace

if TYPE_CHECKING:
    from atofx.program import Program

TOLERANCE = 0.01
_FEW_GROUPS = 12


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
    round_to: int = 1,
) -> Calibrated:
    """The mask whose kept FLOPs are nearest to ``flops`` of the whole model, keeping the best-scored units.

    Every unit is compared with one common offset, found by bisection; each candidate mask is priced exactly by
    ``program.flops``. Every group keeps at least its best unit. Where one unit more or less jumps across the target
    (narrow models), the fewest units of one or two groups are added or dropped that meet the target.

    Args:
        program: the traced model.
        groups: the groups that may be pruned; all others are kept whole.
        scores: importance of each unit by group name, comparable across groups; higher stays longer.
        flops: wanted kept fraction of the whole model's FLOPs.
        tolerance: relative; a mask within it ends the search. A miss beyond it is warned about.
        round_to: kept channels are a multiple of this in groups at least twice as wide.

    Raises:
        TargetError: even the smallest mask has more FLOPs; the message says what the least is.
    """
    search = _Search(program, groups, scores, round_to)
    wanted = flops * search.total
    if not search.groups:
        return search.answer([], wanted, tolerance)
    least = search.price(search.counts(0))
    if least > wanted * (1 + tolerance):
        raise TargetError(
            f"cannot keep only {flops:.4f} of the FLOPs: the smallest mask still has {least} of {search.total} "
            f"multiply-adds, {least / search.total:.4f} of all. Ask for flops >= {least / search.total:.4f}, or let "
            "more groups be pruned."
        )
    low, high = 0, len(search.order)
    while high - low > 1:
        middle = (low + high) // 2
        if search.price(search.counts(middle)) <= wanted:
            low = middle
        else:
            high = middle
    near = min((high, low), key=lambda level: abs(search.price(search.counts(level)) - wanted))
    if abs(search.price(search.counts(near)) - wanted) <= tolerance * wanted:
        return search.answer(search.counts(near), wanted, tolerance)
    refined = [search.refine(search.counts(level), wanted, tolerance) for level in (high, low)]
    best = min(refined, key=lambda counts: abs(search.price(counts) - wanted))
    return search.answer(best, wanted, tolerance)


class _Search:
    """Masks as counts of kept units per group: the best ones of each."""

    def __init__(
        self, program: Program, groups: Sequence[Group], scores: Mapping[str, torch.Tensor], round_to: int
    ) -> None:
        if round_to < 1:
            raise ConfigError(f"round_to={round_to} must be at least 1")
        self.program = program
        self.groups = tuple(groups)
        self.total = int(program.flops())
        space = UnitSpace(groups)
        self.space = space
        self.scores = space.join({name: score.detach().double().cpu() for name, score in scores.items()})
        if bool(self.scores.isnan().any()):
            raise ConfigError("scores contain NaN; the model has diverged or a criterion divides by zero")
        ranking = torch.argsort(self.scores, descending=True, stable=True)
        self.order = space.owner[ranking]
        self.ranked = self.scores[ranking]
        self.best = [torch.argsort(part, descending=True, stable=True) for part in space.split(self.scores).values()]
        self.steps = [_granularity(group, round_to) for group in groups]
        self._prices: dict[tuple[int, ...], int] = {}

    def counts(self, level: int) -> list[int]:
        """Kept units per group when the ``level`` best-scored units of all stay."""
        kept = torch.bincount(self.order[:level], minlength=len(self.groups)).tolist()
        return [
            min(group.size, max(step, step * round(count / step)))
            for group, step, count in zip(self.groups, self.steps, kept, strict=True)
        ]

    def mask(self, counts: Sequence[int]) -> Mask:
        keep = torch.zeros(self.space.total, dtype=torch.bool)
        for offset, best, count in zip(self.space.offsets, self.best, counts, strict=True):
            keep[offset + best[:count]] = True
        return self.space.mask(self.program, keep)

    def price(self, counts: Sequence[int]) -> int:
        key = tuple(counts)
        if key not in self._prices:
            self._prices[key] = int(self.program.flops(self.mask(counts)))
        return self._prices[key]

    def refine(self, counts: Sequence[int], wanted: float, tolerance: float) -> list[int]:
        """Nearer to the target by a few units of one group, or of two; the smallest change that meets it."""

        def badness(trial: list[int]) -> tuple[float, int]:
            miss = max(0.0, abs(self.price(trial) - wanted) - tolerance * wanted)
            return miss, sum(abs(a - b) for a, b in zip(trial, counts, strict=True))

        return min([list(counts), *self._moves(counts, wanted)], key=badness)

    def _moves(self, counts: Sequence[int], wanted: float) -> Iterator[list[int]]:
        """One or two steps more or less in one group, and any number in a second one where groups are few."""
        for first, up in product(range(len(self.groups)), (-2, -1, 1, 2)):
            trial = list(counts)
            trial[first] += up * self.steps[first]
            if not self.steps[first] <= trial[first] <= self.groups[first].size:
                continue
            yield trial
            if len(self.groups) <= _FEW_GROUPS:
                yield from (self._solve(trial, second, wanted) for second in range(len(self.groups)) if second != first)

    def _solve(self, counts: Sequence[int], group: int, wanted: float) -> list[int]:
        """The count of one group that comes nearest to the target while the others stay."""

        def having(steps: int) -> list[int]:
            return [*counts[:group], min(self.groups[group].size, steps * self.steps[group]), *counts[group + 1 :]]

        low, high = 1, -(-self.groups[group].size // self.steps[group])
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.price(having(middle)) <= wanted else (low, middle)
        return min((having(low), having(high)), key=lambda trial: abs(self.price(trial) - wanted))

    def answer(self, counts: Sequence[int], wanted: float, tolerance: float) -> Calibrated:
        flops = self.price(counts)
        if abs(flops - wanted) > tolerance * wanted:
            warnings.warn(
                f"the nearest mask keeps {flops / self.total:.4f} of the FLOPs for a target of "
                f"{wanted / self.total:.4f}: a single unit more or less is worth more than the tolerance",
                stacklevel=3,
            )
        level = min(sum(counts), len(self.ranked) - 1)
        offset = float(self.ranked[level]) if len(self.ranked) else 0.0
        return Calibrated(self.mask(counts), flops, flops / self.total, offset)


def _granularity(group: Group, round_to: int) -> int:
    """Units per step so that the group's channels are multiples of ``round_to``; 1 where it is not twice as wide."""
    if group.channels < 2 * round_to:
        return 1
    per_unit = max(1, group.channels // group.size)
    return min(group.size, round_to // gcd(round_to, per_unit))
