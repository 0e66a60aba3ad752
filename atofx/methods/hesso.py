"""HESSO, the optimizer of the third OTO library: redundant units are chosen period by period and fade linearly.

Source: *HESSO: Towards Automatic Efficient and User Friendly Any Neural Network Training and Pruning* (Chen et al.,
arXiv 2409.09085) and its authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atofx.errors import ConfigError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.methods.goal import choose_share
from atofx.methods.phases import fade_factor, require_order, step_of
from atofx.methods.salience import Moments, importance
from atofx.methods.selection import GroupFilter
from atofx.methods.sparse_optimizer import SparseOptimizer

if TYPE_CHECKING:
    from atofx.program import Program


@dataclass(frozen=True)
class HESSOSchedule:
    """When units go. The authors advise to start at a tenth of the training and to finish by a quarter or a fifth.

    Attributes:
        t_start: fraction of the training at which the first period begins.
        t_end: fraction at which the last one is over.
        periods: P; each has ``(end - start) // P`` steps.
    """

    t_start: float = 0.1
    t_end: float = 0.25
    periods: int = 10

    def __post_init__(self) -> None:
        require_order({"t_start": self.t_start, "t_end": self.t_end})
        if self.periods < 1:
            raise ConfigError(f"periods={self.periods} must be at least 1")


class HESSO(SparseOptimizer):
    """Hybrid Efficient Structured Sparse Optimizer around any base optimizer: no penalty to tune.

    Pruning lasts P periods of D steps. As each begins, all units are scored from their parameters and the present
    gradient (:func:`atofx.methods.salience.importance`), and as many of the lowest become redundant as bring the total
    to ``p / P`` of those that have to go to meet the target. During the period a newly
    redundant unit takes its normal optimizer step and is multiplied by ``(D - t - 1) / (D - t)``, a linear fade; then
    it stays zero. After the last period the rest trains on.

    The corrective cycle of HESSO-CRIC is not published in enough detail to be here.

    Args:
        base: the optimizer that trains.
        program: the traced model; train the plain model it was made from.
        total_steps: optimizer steps of the whole training.
        flops: kept fraction of the whole model's FLOPs (multiply-adds counted once), met within 1 %; or
        sparsity: K / N, share of all units to remove.
        schedule: when.
        groups: which prunable groups take part; all by default.
        limits: minimum widths and rounding.

    Raises:
        ConfigError: a value is out of range, or neither ``flops`` nor ``sparsity`` is given.
        TargetError: no mask reaches the target.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        program: Program,
        *,
        total_steps: int,
        flops: float | None = None,
        sparsity: float | None = None,
        schedule: HESSOSchedule | None = None,
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        super().__init__(
            base, program, total_steps=total_steps, flops=flops, sparsity=sparsity, groups=groups, limits=limits
        )
        self._target = self._required_goal()
        self.schedule = schedule or HESSOSchedule()
        start = step_of(self.schedule.t_start, total_steps)
        window = step_of(self.schedule.t_end, total_steps) - start
        self._periods = max(1, min(self.schedule.periods, window))
        self._start, self._length = start, max(1, window // self._periods)

    def _advance(self, now: int) -> None:
        period, step = divmod(now - self._start, self._length)
        if period < 0:
            self.base.step()
            return
        if step == 0:
            self._choose(period)
        self.base.step()
        self._fade(fade_factor(step, self._length))
        if step + 1 == self._length:
            assert self._keep is not None
            self._gone = ~self._keep.to(self._gone.device)
            if period + 1 == self._periods:
                self._freeze()

    def _choose(self, period: int) -> None:
        """More units become redundant; the last period completes the target."""
        self._decide(choose_share(self._target, self._scores(), self._gone, (period + 1) / self._periods))

    def _is_settled(self) -> bool:
        """Once the last period has begun."""
        return self._keep is not None and self._steps > self._start + (self._periods - 1) * self._length

    def _scores(self) -> torch.Tensor:
        units = self._every_unit()
        scores = importance(Moments.of(units))
        return torch.where(units.sizes > 0, scores, torch.full_like(scores, torch.inf))
