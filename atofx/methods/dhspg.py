"""DHSPG, the optimizer of OTOv2: units are split into redundant candidates and important ones, only the first shrink.

Source: *OTOv2: Automatic, Generic, User-Friendly* (Chen et al., ICLR 2023, arXiv 2303.06862) and its authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atofx.errors import ConfigError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.methods import parallel
from atofx.methods.flat import FlatUnits, learning_rates
from atofx.methods.goal import SparsityGoal
from atofx.methods.half_space import EPSILON_MOST, first_of_each, penalties, turns_away
from atofx.methods.phases import fade_factor, require_order, step_of
from atofx.methods.protocol import StateValue
from atofx.methods.salience import Moments, redundancy
from atofx.methods.selection import GroupFilter
from atofx.methods.sparse_optimizer import SparseOptimizer
from atofx.methods.state_values import tensor

if TYPE_CHECKING:
    from atofx.program import Program


_CHECK_EVERY = 10  # steps: looking waits for the device


@dataclass(frozen=True)
class DHSPGSchedule:
    """Fractions of the whole training.

    The paper's T_w and T_h are separate; the authors' code has one number for both and reports almost the same results.

    Attributes:
        t_partition: T_w, the units are split.
        t_half_space: T_h, the half-space projection joins the penalty; None: with the partition, as in the code.
        t_fade: candidates that still have to go begin to fade linearly.
        t_end: they are zero.
    """

    t_partition: float = 0.1
    t_half_space: float | None = None
    t_fade: float = 0.4
    t_end: float = 0.5

    def __post_init__(self) -> None:
        named = {
            "t_partition": self.t_partition,
            "t_half_space": self.half_space,
            "t_fade": self.t_fade,
            "t_end": self.t_end,
        }
        require_order(named)

    @property
    def half_space(self) -> float:
        """T_h as a number."""
        return self.t_partition if self.t_half_space is None else self.t_half_space


class DHSPG(SparseOptimizer):
    """Dual Half-Space Projected Gradient around any base optimizer.

    * Until T_w the base optimizer is alone. Then every unit is scored from its parameters and the present gradient
      (:func:`atofx.methods.salience.redundancy`); the highest are candidates: with ``flops`` those that meet the
      target, with ``sparsity`` the top ``floor(N min(sparsity + tolerance, 0.999))``. All others are left to the base
      optimizer.
    * A candidate is pulled, ``x^ = x' - lr lambda_g x / ||x||``, with a penalty that outweighs gradient steps which
      would enlarge it (:func:`atofx.methods.half_space.penalties`); from T_h on it becomes zero if
      ``<x^, x> < epsilon ||x||^2``, and stays zero.
    * Both end when the target is met. The authors' code has no other end, and users find models of full size when the
      penalty was too weak; here candidates that still have to go fade linearly to zero from ``t_fade`` to ``t_end``.

    The released code scores once, as here by default; the text of the later library averages the score over the
    warm-up, which ``score_momentum`` does.

    Args:
        base: the optimizer that trains.
        program: the traced model; train the plain model it was made from.
        total_steps: optimizer steps of the whole training.
        flops: kept fraction of the whole model's FLOPs (multiply-adds counted once), met within 1 %; or
        sparsity: K / N, share of all units to remove.
        tolerance: added to ``sparsity`` for the number of candidates.
        lmd: lambda; the code's defaults are 1e-3 for SGD, 1e-2 for Adam and AdamW.
        amplify: factor on lambda_min; 2 for SGD, 20 for Adam and AdamW.
        cap: largest penalty in multiples of lambda; 10 for SGD, 1000 for Adam and AdamW.
        epsilon: of the half-space test, in [0, 1); published runs have 0.9 and 0.95.
        score_momentum: 0 scores once; else the score is ``m old + (1 - m) new`` over the steps before T_w.
        schedule: the phases.
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
        tolerance: float = 0.05,
        lmd: float | None = None,
        amplify: float | None = None,
        cap: float | None = None,
        epsilon: float = 0.95,
        score_momentum: float = 0.0,
        schedule: DHSPGSchedule | None = None,
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        super().__init__(
            base, program, total_steps=total_steps, flops=flops, sparsity=sparsity, groups=groups, limits=limits
        )
        self._target = self._required_goal()
        strength = _ADAPTIVE if isinstance(base, (torch.optim.Adam, torch.optim.AdamW)) else _PLAIN
        self._lmd = strength.lmd if lmd is None else lmd
        self._amplify = strength.amplify if amplify is None else amplify
        self._cap = strength.cap if cap is None else cap
        self._epsilon, self._momentum, self._tolerance = epsilon, score_momentum, tolerance
        self._check()
        self.schedule = schedule or DHSPGSchedule()
        self._candidates: FlatUnits | None = None
        self._score: torch.Tensor | None = None
        self._all: FlatUnits | None = None

    def _check(self) -> None:
        for name, value in (("lmd", self._lmd), ("amplify", self._amplify), ("tolerance", self._tolerance)):
            if value < 0:
                raise ConfigError(f"{name}={value} must not be negative")
        if self._cap < 1:
            raise ConfigError(f"cap={self._cap} must be at least 1: the largest penalty in multiples of lmd")
        if not 0 <= self._epsilon <= EPSILON_MOST:
            raise ConfigError(f"epsilon={self._epsilon} is not in [0, {EPSILON_MOST}]")
        if not 0 <= self._momentum < 1:
            raise ConfigError(f"score_momentum={self._momentum} is not in [0, 1)")

    def _advance(self, now: int) -> None:
        schedule, total = self.schedule, self.total_steps
        partition, fade = step_of(schedule.t_partition, total), step_of(schedule.t_fade, total)
        if now < partition:
            self._average_score()
            self.base.step()
            return
        is_new = self._candidates is None
        if is_new:
            self._average_score()
            self._split(self._target.widened(self._tolerance).choose(self._scores(), self._gone))
        if self._keep is None and (is_new or now % _CHECK_EVERY == 0) and self._is_met():
            self._decide(self._decision())
            self._freeze()
        if self._frozen:
            self.base.step()
            self._hold()
        elif now >= fade:
            self._fade_step(now - fade, step_of(schedule.t_end, total) - fade)
        else:
            self._shrink(now)

    def _shrink(self, now: int) -> None:
        """One step with penalty and projection, as long as the target is not met."""
        units = self._candidates
        assert units is not None
        rates = learning_rates(self.base, units.parameters)
        x, g = units.read("x"), units.gradients("g")
        squares, products, gradients = units.dots(x, x), units.dots(x, g), units.dots(g, g)
        self.base.step()
        zero = self._gone[units.where]
        room = self._room(units, zero)
        lmd = penalties(self._lmd, squares, products, gradients, amplify=self._amplify, cap=self._cap)
        strength = torch.where((squares > 0) & (room > 0), lmd / squares.sqrt(), torch.zeros_like(lmd))
        units.subtract_(units.expand(strength, rates).mul_(x))
        if now >= step_of(self.schedule.half_space, self.total_steps):
            trial = units.dots(units.read("trial"), x)
            away = turns_away(trial, squares, self._epsilon) & ~zero
            zero = zero | first_of_each(away, trial / squares, torch.zeros_like(units.where), room)
            self._gone = self._gone.index_put((units.where,), zero)
        units.units.scale_((~zero).to(units.units.dtype))

    def _room(self, units: FlatUnits, zero: torch.Tensor) -> torch.Tensor:
        """How many candidates still have to become zero, LongTensor (1,): all of them, or as many as K asks for."""
        wanted = self._target.count if isinstance(self._target, SparsityGoal) else units.count
        return (min(wanted, units.count) - zero.sum()).reshape(1)

    def _is_met(self) -> bool:
        units = self._candidates
        assert units is not None
        return int(self._room(units, self._gone[units.where])) <= 0

    def _fade_step(self, step: int, length: int) -> None:
        if self._keep is None:
            self._decide(self._decision())
        self.base.step()
        factor = fade_factor(step, length)
        self._fade(factor)
        if factor == 0:
            self._freeze()

    def _last_scores(self) -> torch.Tensor:
        """Candidates by their norms, all others above them."""
        units = self._candidates
        assert units is not None
        scores = torch.full((self._space.total,), torch.inf, dtype=units.units.dtype, device=self._gone.device)
        return scores.index_put((units.where,), units.sums(units.read().square()).sqrt())

    def _split(self, keep: torch.Tensor) -> None:
        chosen = parallel.agree(~keep, self._device())
        self._candidates = FlatUnits(self.program, self._space, self._axes, chosen)
        self._all = None  # scored for the last time

    def _decision(self) -> torch.Tensor:
        scores = self._scores() if self._candidates is None else self._last_scores()
        return self._target.choose(scores, self._gone)

    def _average_score(self) -> None:
        if self._momentum == 0:
            return
        fresh = self._present_score()
        mixed = fresh if self._score is None else self._momentum * self._score + (1 - self._momentum) * fresh
        self._score = mixed

    def _present_score(self) -> torch.Tensor:
        return redundancy(Moments.of(self._whole()))

    def _whole(self) -> FlatUnits:
        self._all = self._all or self._every_unit()
        return self._all

    def _scores(self) -> torch.Tensor:
        score = self._present_score() if self._score is None else self._score
        sizes = self._whole().sizes
        return torch.where(sizes > 0, -score, torch.full_like(score, torch.inf))

    def _own_metrics(self) -> dict[str, float]:
        return {"candidates": float(self._candidates.count if self._candidates is not None else 0)}

    def _own_state(self) -> dict[str, StateValue]:
        state: dict[str, StateValue] = {}
        if self._candidates is not None:
            candidates = torch.zeros(self._space.total, dtype=torch.bool)
            candidates[self._candidates.where.cpu()] = True
            state["candidates"] = candidates
        if self._score is not None:
            state["score"] = self._score.cpu().clone()
        return state

    def _load_own(self, state: Mapping[str, StateValue]) -> None:
        self._candidates, self._score = None, None
        if "candidates" in state:
            self._split(~tensor(state, "candidates").cpu().bool())
        if "score" in state:
            self._score = tensor(state, "score").to(self._gone.device)


@dataclass(frozen=True)
class _Strength:
    lmd: float
    amplify: float
    cap: float


_PLAIN, _ADAPTIVE = _Strength(1e-3, 2.0, 10.0), _Strength(1e-2, 20.0, 1000.0)
