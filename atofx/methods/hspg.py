"""HSPG, the optimizer of Only-Train-Once: a group penalty, then half-space projections of what turns away from itself.

Source: *Only Train Once: A One-Shot Neural Network Training And Pruning Framework* (Chen et al., NeurIPS 2021, arXiv
2107.07467) and its authors' code of December 2021.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch

from atofx.errors import ConfigError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.methods.flat import learning_rates
from atofx.methods.half_space import adapted_epsilon, first_of_each, pull, turns_away
from atofx.methods.kinds import Kind, Kinds
from atofx.methods.phases import fade_factor, require_order, step_of
from atofx.methods.protocol import StateValue
from atofx.methods.selection import GroupFilter
from atofx.methods.sparse_optimizer import SparseOptimizer
from atofx.methods.state_values import number, tensor

if TYPE_CHECKING:
    from atofx.program import Program

_NO_KINDS: Mapping[str, Kind] = MappingProxyType({})


@dataclass(frozen=True)
class HSPGSchedule:
    """Fractions of the whole training.

    Attributes:
        t_half_space: N_p, the half-space stage begins (published: 75 of 300 epochs).
        t_decide: with a target that is not reached by itself, the units with the smallest norms are chosen here.
        t_end: what was chosen has faded to zero.
        lmd_drops: lambda is multiplied by ``lmd_gamma`` at each (BERT: a tenth at epochs 2, 4 and 6 of 9).
        lmd_gamma: factor.
        adapt_every: between adaptations of an adaptive epsilon; never less than a step (BERT: 200 steps).
    """

    t_half_space: float = 0.25
    t_decide: float = 0.4
    t_end: float = 0.5
    lmd_drops: tuple[float, ...] = ()
    lmd_gamma: float = 0.1
    adapt_every: float = 0.004

    def __post_init__(self) -> None:
        require_order({"t_half_space": self.t_half_space, "t_decide": self.t_decide, "t_end": self.t_end})
        require_order({f"lmd_drops[{place}]": value for place, value in enumerate(self.lmd_drops)})
        require_order({"adapt_every": self.adapt_every})
        if not 0 < self.lmd_gamma <= 1:
            raise ConfigError(f"lmd_gamma={self.lmd_gamma} is not in (0, 1]")


class HSPG(SparseOptimizer):
    """Half-Space Stochastic Projected Gradient around any base optimizer.

    ::

        optimizer = HSPG(torch.optim.SGD(model.parameters(), lr=0.1), program, flops=0.5, total_steps=steps)
        for x, y in loader:
            criterion(model(x), y).backward(); optimizer.step(); optimizer.zero_grad()
        mask = optimizer.finish()

    Minimises ``f(x) + lambda sum_g ||x_g||`` over the units g. With x before and x' after the base optimizer's step:

    * first stage: ``x' - lr lambda x / (||x|| + 1e-6)`` (sub-gradient, as in the code; the default), or the proximal
      step ``max(0, 1 - lr lambda / ||x'||) x'`` (the paper's alternative);
    * half-space stage: trial ``x^ = x' - lr lambda x / ||x||``; a unit becomes zero if ``<x^, x> < epsilon ||x||^2``,
      and zero units stay zero. Every group keeps as many units as the limits ask for, one at least.

    With ``flops`` or ``sparsity`` the projection ends where the target is met: of the units that would go last, those
    furthest beyond the test go. If the target is not met by ``t_decide``, the units with the smallest norms (which the
    penalty, equal for all, would bring to zero first) fade linearly to zero until ``t_end``. Without a target, as
    published, lambda and epsilon alone decide how much goes; what is zero at the end is dropped.

    A cap (upper group sparsity of a kind) lets no more than ``floor(cap N)`` of its units become zero; when a step
    would exceed it, those furthest beyond the test go. The authors' code projects a random subset of the size of the
    *excess* instead of the allowance, which looks inverted. A target comes before caps: where it needs more units than
    they leave, a warning says so.

    Args:
        base: the optimizer that trains.
        program: the traced model; train the plain model it was made from.
        total_steps: optimizer steps of the whole training.
        flops: kept fraction of the whole model's FLOPs (multiply-adds counted once), met within 1 %; or
        sparsity: share of all units to remove.
        lmd: lambda, the group penalty.
        kind: epsilon, cap and adaptivity of groups that ``kinds`` does not name.
        kinds: by pattern on group names (published for VGG16: epsilon 0 for convolutions, 0.9 for linear layers).
        first_stage: ``"subgradient"`` or ``"proximal"``.
        schedule: the phases.
        groups: which prunable groups take part; all by default.
        limits: minimum widths and rounding.

    Raises:
        ConfigError: a value is out of range.
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
        lmd: float = 1e-3,
        kind: Kind | None = None,
        kinds: Mapping[str, Kind] = _NO_KINDS,
        first_stage: Literal["subgradient", "proximal"] = "subgradient",
        schedule: HSPGSchedule | None = None,
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        super().__init__(
            base, program, total_steps=total_steps, flops=flops, sparsity=sparsity, groups=groups, limits=limits
        )
        if lmd < 0:
            raise ConfigError(f"lmd={lmd} must not be negative")
        if first_stage not in ("subgradient", "proximal"):
            raise ConfigError(f"first_stage={first_stage!r} is unknown; it is 'subgradient' (default) or 'proximal'")
        self.schedule = schedule or HSPGSchedule()
        self._lmd = lmd
        self._first_stage = first_stage
        self._units = self._every_unit()
        self._kinds = Kinds(self._space, kind or Kind(), kinds, self._device())
        self._epsilon = self._kinds.epsilon.clone()
        self._sparsity = torch.zeros_like(self._epsilon)
        self._owner = self._space.owner.to(self._device())
        allowed = limits.allowed_counts(program.prunable)
        least = torch.tensor([int(allowed[group.name][0]) for group in self._space.groups], dtype=torch.long)
        self._most = (torch.tensor(self._space.sizes, dtype=torch.long) - least).to(self._device())
        self._decided_at = -1

    def lmd(self, step: int) -> float:
        """lambda at the 0-based ``step``."""
        drops = sum(step >= step_of(drop, self.total_steps) for drop in self.schedule.lmd_drops)
        return float(self._lmd * self.schedule.lmd_gamma**drops)

    def _advance(self, now: int) -> None:
        schedule, total = self.schedule, self.total_steps
        if self._keep is None and self._goal is not None and now >= step_of(schedule.t_decide, total):
            self._decide(self._decision())
            self._decided_at = now
            self._say_if_over_caps()
        if self._keep is not None:
            self._fade_step(now)
        elif now < step_of(schedule.t_half_space, total):
            self._first(now)
        else:
            self._adapt(now)
            self._second(now)

    def _fade_step(self, now: int) -> None:
        schedule = self.schedule
        length = step_of(schedule.t_end, self.total_steps) - step_of(schedule.t_decide, self.total_steps)
        self.base.step()
        factor = fade_factor(now - self._decided_at, length)
        self._fade(factor)
        if factor == 0:
            self._freeze()

    def _first(self, now: int) -> None:
        units, lmd = self._units, self.lmd(now)
        rates = learning_rates(self.base, units.parameters)
        x = units.read("x") if self._first_stage == "subgradient" else None
        self.base.step()
        if x is not None:
            units.subtract_(units.expand(pull(lmd, units.dots(x, x)), rates).mul_(x))
            return
        x = units.read("x")
        norm = units.dots(x, x).sqrt()
        strength = torch.where(norm > 0, lmd / norm, torch.zeros_like(norm))
        units.subtract_(units.expand(strength, rates).clamp_(max=1).mul_(x))

    def _second(self, now: int) -> None:
        units = self._units
        rates = learning_rates(self.base, units.parameters)
        x = units.read("x")
        self.base.step()
        squares = units.dots(x, x)
        units.subtract_(units.expand(pull(self.lmd(now), squares), rates).mul_(x))
        trial = units.dots(units.read("trial"), x)
        zero = (squares == 0) & (units.sizes > 0)
        away = turns_away(trial, squares, self._epsilon[self._kinds.owner])
        away = self._within_target(self._within_room(away, trial / squares, zero), trial / squares, zero, now)
        self._gone = zero | away
        units.units.scale_((~self._gone).to(units.units.dtype))

    def _within_room(self, away: torch.Tensor, ratio: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
        """Of the units that turn away those which their group and their kind can spare, the furthest first."""
        in_group = torch.bincount(self._owner[zero], minlength=len(self._most))
        away = first_of_each(away, ratio, self._owner, self._most - in_group)
        return first_of_each(away, ratio, self._kinds.owner, self._kinds.room(zero))

    def _within_target(self, away: torch.Tensor, ratio: torch.Tensor, zero: torch.Tensor, now: int) -> torch.Tensor:
        """All of them, or as many as the target needs; the decision is then taken."""
        if self._goal is None or not bool(away.any()) or not self._goal.is_reached(zero | away):
            return away
        norms = self._units.sums(self._units.read().square()).sqrt()
        scores = torch.where(away, ratio, 1 + norms)  # ratios lie below epsilon < 1
        self._decide(self._goal.choose(scores, zero))
        self._decided_at = now + 1
        assert self._keep is not None
        return away & ~self._keep.to(away.device)

    def _adapt(self, now: int) -> None:
        every = max(1, step_of(self.schedule.adapt_every, self.total_steps))
        begins = step_of(self.schedule.t_half_space, self.total_steps)
        if now == begins or (now - begins) % every:
            return
        sparsity = self._kinds.sparsity(self._gone)
        larger = adapted_epsilon(self._epsilon, sparsity, self._sparsity, self._kinds.cap)
        self._epsilon = torch.where(self._kinds.adaptive, larger, self._epsilon)
        self._sparsity = sparsity

    def _say_if_over_caps(self) -> None:
        """Warn where the target asks for more than the caps leave: the target is what is promised."""
        assert self._keep is not None
        over = self._kinds.room(~self._keep.to(self._kinds.owner.device)) < 0
        names = [name for name, is_over in zip(self._kinds.names, over.tolist(), strict=True) if is_over]
        for name in names:
            problem = f"the target takes more units of the kind {name!r} than its cap lets go"
            warnings.warn(f"{problem}; raise the cap, or ask for less", stacklevel=4)

    def _scores(self) -> torch.Tensor:
        """Norms; the best units of a kind, as many as its cap leaves, come before all others."""
        norms = self._units.sums(self._units.read().square()).sqrt()
        norms = torch.where(self._units.sizes > 0, norms, torch.full_like(norms, torch.inf))
        may_go = first_of_each(~self._gone, norms, self._kinds.owner, self._kinds.room(self._gone)) | self._gone
        return torch.where(may_go, norms, torch.full_like(norms, torch.inf))

    def _own_metrics(self) -> dict[str, float]:
        return {"lambda": self.lmd(max(0, self._steps - 1)), "epsilon": float(self._epsilon.max())}

    def _own_state(self) -> dict[str, StateValue]:
        return {
            "epsilon": self._epsilon.cpu().clone(),
            "kind_sparsity": self._sparsity.cpu().clone(),
            "decided_at": self._decided_at,
        }

    def _load_own(self, state: Mapping[str, StateValue]) -> None:
        self._epsilon = tensor(state, "epsilon").to(self._epsilon)
        self._sparsity = tensor(state, "kind_sparsity").to(self._sparsity)
        self._decided_at = int(number(state, "decided_at"))
