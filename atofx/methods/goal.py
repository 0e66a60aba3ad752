"""How many units have to go: a FLOPs target, or the papers' target group sparsity K."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from typing import TYPE_CHECKING, Protocol

import torch

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import Limits
from atofx.methods.calibrate import at_most_left, calibrate
from atofx.methods.selection import GroupFilter, UnitSpace
from atofx.methods.targets import targets

if TYPE_CHECKING:
    from atofx.program import Program

MOST_SPARSE = 0.999


class Goal(Protocol):
    """Turns scores of all units into the units to keep."""

    def choose(self, scores: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
        """The units to keep.

        Args:
            scores: (units,), higher stays longer.
            gone: BoolTensor (units,), zero already: they never come back.

        Returns:
            BoolTensor (units,) on the CPU, within the limits.
        """

    def is_reached(self, gone: torch.Tensor) -> bool:
        """Whether without the units ``gone`` (BoolTensor) nothing more has to go."""

    def widened(self, tolerance: float) -> Goal:
        """A goal with more units to choose from; a FLOPs target stays what it is."""

    def state(self) -> Mapping[str, float]:
        """What tells goals apart."""


def choose_share(goal: Goal, scores: torch.Tensor, gone: torch.Tensor, share: float) -> torch.Tensor:
    """The units to keep when only a share of those that have to go in the end goes now: the lowest-scored of them.

    What goes is part of a choice that meets the goal, so the goal can still be met later.

    Args:
        goal: the whole of it.
        scores: (units,), higher stays longer.
        gone: BoolTensor (units,), zero already; they count.
        share: in (0, 1].
    """
    keep = goal.choose(scores, gone)
    if share >= 1:
        return keep
    ranked = scores.detach().double().cpu().clone()
    ranked[gone.cpu()] = -torch.inf
    ranked[keep] = torch.inf
    now = torch.ones_like(keep)
    now[torch.argsort(ranked, stable=True)[: floor(share * int((~keep).sum()) + 1e-9)]] = False
    return now & ~gone.cpu()


@dataclass(frozen=True, eq=False)
class FlopsGoal:
    """Keep ``flops`` of the model's FLOPs (multiply-adds counted once), within 1 %, found by bisection."""

    program: Program
    space: UnitSpace
    limits: Limits
    flops: float

    def choose(self, scores: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
        """See :meth:`Goal.choose`."""
        parts, dropped = self.space.split(scores), self.space.split(gone.cpu())
        found = calibrate(self.program, self.space.groups, parts, self.flops, limits=self.limits, gone=dropped)
        return self.space.join(found.mask).bool()

    def is_reached(self, gone: torch.Tensor) -> bool:
        """Whether the kept FLOPs are at the target or below."""
        kept = int(self.program.flops(self.space.mask(self.program, ~gone.cpu())))
        return kept <= self.flops * int(self.program.flops())

    def widened(self, tolerance: float) -> FlopsGoal:
        """Itself: the units to remove are those that meet the target."""
        return self

    def state(self) -> Mapping[str, float]:
        """The kept fraction."""
        return {"flops": self.flops}


@dataclass(frozen=True, eq=False)
class SparsityGoal:
    """Remove the ``K = floor(sparsity N)`` lowest-scored of N units, as far as limits let them go."""

    program: Program
    space: UnitSpace
    limits: Limits
    sparsity: float

    def choose(self, scores: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
        """See :meth:`Goal.choose`."""
        allowed = self.limits.allowed_counts(self.program.prunable)
        ranked = scores.detach().double().cpu().clone()
        gone = gone.cpu()
        ranked[gone] = -torch.inf
        ranked[self._protected(ranked, allowed)] = torch.inf
        keep = torch.ones(self.space.total, dtype=torch.bool)
        keep[torch.argsort(ranked, stable=True)[: self.count]] = False
        left = {name: at_most_left(allowed[name], part) for name, part in self.space.split(gone).items()}
        return self.space.within(keep & ~gone, ranked, left)

    def is_reached(self, gone: torch.Tensor) -> bool:
        """Whether K units are gone."""
        return int(gone.sum()) >= self.count

    @property
    def count(self) -> int:
        """K."""
        return floor(self.sparsity * self.space.total + 1e-9)

    def widened(self, tolerance: float) -> SparsityGoal:
        """``min(sparsity + tolerance, 0.999)``."""
        return replace(self, sparsity=max(self.sparsity, min(self.sparsity + tolerance, MOST_SPARSE)))

    def state(self) -> Mapping[str, float]:
        """The share of units to remove."""
        return {"sparsity": self.sparsity}

    def most(self) -> float:
        """The largest sparsity within the limits."""
        allowed = self.limits.allowed_counts(self.program.prunable)
        return 1 - sum(int(allowed[group.name][0]) for group in self.space.groups) / max(1, self.space.total)

    def _protected(self, scores: torch.Tensor, allowed: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The best units of every group, as many as have to stay."""
        best = torch.zeros(self.space.total, dtype=torch.bool)
        least = {name: int(counts[0]) for name, counts in allowed.items()}
        for (name, part), offset in zip(self.space.split(scores).items(), self.space.offsets, strict=True):
            best[offset + torch.argsort(part, descending=True, stable=True)[: least[name]]] = True
        return best


def make_goal(
    program: Program,
    space: UnitSpace,
    *,
    flops: float | None,
    sparsity: float | None,
    groups: GroupFilter,
    limits: Limits,
) -> Goal | None:
    """The goal that is given; None if neither is.

    Args:
        program: the traced model.
        space: the units that may go.
        flops: kept fraction of the whole model's FLOPs (multiply-adds counted once); or
        sparsity: share of the units to remove.
        groups: the filter that ``space`` was made with.
        limits: minimum widths and rounding.

    Raises:
        ConfigError: both are given, or one is out of range.
        TargetError: the goal cannot be reached; the message says what can.
    """
    if flops is not None and sparsity is not None:
        raise ConfigError("give flops= (kept fraction of the FLOPs) or sparsity= (share of units to remove), not both")
    if flops is not None:
        targets(program, flops=flops, groups=groups, limits=limits).require_reachable()
        return FlopsGoal(program, space, limits, flops)
    if sparsity is None:
        return None
    if not 0 <= sparsity < 1:
        raise ConfigError(f"sparsity={sparsity} is not a share of units in [0, 1); 0.7 removes 70 % of them")
    goal = SparsityGoal(program, space, limits, sparsity)
    if sparsity > goal.most() + 1e-9:
        raise TargetError(
            f"cannot remove {sparsity:.4f} of the units: with the least that must stay in every group, "
            f"{goal.most():.4f} can go. Ask for less, or relax the limits"
        )
    return goal
