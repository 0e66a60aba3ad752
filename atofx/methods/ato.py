"""Auto-Train-Once: a controller network decides which units die while the model trains.

Source: *Auto-Train-Once: Controller Network Guided Automatic Network Pruning from Scratch* (CVPR 2024, arXiv
2403.14729) and its authors' code. Where paper and code differ, the code is followed and the docstring concerned says
so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.ir.mask import Mask
from atofx.methods import parallel
from atofx.methods.calibrate import calibrate
from atofx.methods.controller_training import ControllerTraining
from atofx.methods.producers import Dropped, producer_axes
from atofx.methods.projection import HalfSpace, Projection, Proximal
from atofx.methods.protocol import BatchSource, LossFn, StateValue
from atofx.methods.resource import REG_W
from atofx.methods.schedule import Schedule, plan
from atofx.methods.selection import GroupFilter, UnitSpace, select
from atofx.methods.state_values import number, tensor, under
from atofx.methods.targets import Targets, targets

if TYPE_CHECKING:
    from atofx.program import Program


class ATO:
    """Auto-Train-Once beside any training loop. FLOPs are multiply-adds counted once.

    ::

        method = ATO(program, flops=0.5, total_steps=epochs * len(loader))
        for x, y in loader:
            criterion(model(x), y).backward(); optimizer.step(); optimizer.zero_grad()
            method.step(lr=lr, batch=(x, y))
        mask = method.mask()

    Every ``every`` steps between T_start and T_end the controller takes one step on
    ``task(gated model, soft gates) + 2 reg_w R(FLOPs of independent hard straight-through bits)`` (so in the authors'
    code; a straight-through mask for both would be the paper's reading). Once an epoch a mask is drawn from it; from
    T_w on the units it drops are projected towards zero after each optimizer step. At T_end the mask is frozen: units
    ranked by keep probability, one offset found by bisection, so that the kept FLOPs are within 1 % of the target (the
    code freezes the last random draw, which meets the target only roughly). At ``total_steps`` the dropped units
    become exactly zero.

    Args:
        program: the traced model; train the plain (ungated) model it was made from.
        flops: kept fraction of the whole model's FLOPs; or
        p: kept fraction of the prunable part, as in the published runs. The resource loss is measured on the same part.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: a mask is drawn once in so many steps; a hundredth of the training if not given.
        groups: which prunable groups take part (see ``select``); all by default, coupled residual ones included.
        limits: minimum widths and rounding; every mask in force, and the FLOPs the controller sees, are within them.
        every: model steps per controller step; None is 20, fewer in short trainings (``controller_pace``).
        controller_lr: None is 1e-3, more in short trainings (``controller_lr``).
        lmd: strength of the proximal step; 0 is 10 and later 1000.
        projection: ``"proximal"``, ``"half-space"`` or an object of your own.
        reg_w: weight of the resource loss; applied doubled.
        schedule: the phases as fractions of training.
        loss_fn: task loss of the controller, plain cross-entropy by default.
        seed: initial weights and draws of the controller; the same on every process.

    Raises:
        ConfigError: a value is missing or out of range.
        TargetError: no mask reaches the target.
    """

    def __init__(
        self,
        program: Program,
        flops: float | None = None,
        *,
        p: float | None = None,
        total_steps: int | None = None,
        steps_per_epoch: int | None = None,
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
        every: int | None = None,
        controller_lr: float | None = None,
        lmd: float = 0.0,
        projection: Literal["proximal", "half-space"] | Projection = "proximal",
        reg_w: float = REG_W,
        schedule: Schedule | None = None,
        loss_fn: LossFn = functional.cross_entropy,
        seed: int = 0,
    ) -> None:
        if total_steps is None:
            raise ConfigError(
                "ATO's phases are fractions of the training, so it must know how long that is: pass "
                "total_steps=epochs * len(loader) (the number of optimizer steps)"
            )
        if lmd < 0 or reg_w < 0:
            raise ConfigError(f"lmd={lmd} and reg_w={reg_w} must not be negative")
        self.program = program
        self.schedule = schedule or Schedule()
        self.plan = plan(self.schedule, total_steps, every=every, steps_per_epoch=steps_per_epoch, lr=controller_lr)
        self.targets: Targets = targets(program, flops=flops, p=p, groups=groups, limits=limits)
        self._space = UnitSpace(select(program, groups))
        if not self._space.groups and self.targets.flops < 1:
            raise TargetError(
                f"no group of the model may be pruned, so flops={self.targets.flops:.4f} cannot be reached: the least "
                "is 1.0 (program.summary() and `atofx inspect` say what is pinned and why)"
            )
        self.targets.require_reachable()
        self._limits = limits
        self.lmd = lmd
        self._projection = _projection(projection)
        self._axes = producer_axes(self._space)
        self._training = ControllerTraining(
            program,
            self._space,
            limits.allowed_counts(program.prunable),
            self.targets,
            of_prunable=p is not None,
            reg_w=reg_w,
            loss_fn=loss_fn,
            seed=seed,
            device=self._device,
        )
        self._keep = torch.ones(self._space.total, dtype=torch.bool)
        self._dropped: Dropped | None = None
        self._step = 0
        self._updates = 0
        self._frozen = False
        self._finished = False
        self._logged: dict[str, float] = {}
        self._present_flops = 1.0

    @property
    def target(self) -> float:
        """Target as the kept fraction of the whole model's FLOPs."""
        return self.targets.flops

    @property
    def p(self) -> float:
        """Target as the kept fraction of the prunable part."""
        return self.targets.p

    @property
    def least(self) -> float:
        """The least kept fraction any mask reaches."""
        return self.targets.least

    @property
    def steps(self) -> int:
        """Optimizer steps seen."""
        return self._step

    @property
    def controller_steps(self) -> int:
        """Controller steps done."""
        return self._updates

    @property
    def frozen(self) -> bool:
        """Whether the mask is final."""
        return self._frozen

    def due(self) -> bool:
        """True if the coming :meth:`step` trains the controller and so uses its batch."""
        return not self._frozen and bool(self._space.total) and self.plan.is_controller_step(self._step)

    def step(self, *, lr: float, batch: BatchSource) -> None:
        """After every optimizer step of the model: controller, mask, projection, as the schedule has it.

        Args:
            lr: the model's present learning rate; it scales the projection.
            batch: ``(inputs, targets)`` or a function making one, called only when :meth:`due`. Feed a fixed 5 % of the
                training set (``subset_indices``), or simply the present batch.
        """
        now = self._step
        if not self._frozen and now >= self.plan.end:
            self._freeze()
        elif not self._frozen and self._space.total and self.plan.is_resample_step(now):
            self._put_in_force(self._training.draw())
        if self.due():
            decayed = now >= self.plan.decay
            self._logged = self._training.step(batch, lr=self.plan.lr * (0.1 if decayed else 1.0))
            self._updates += 1
        if self._finished:
            self._producers().zero_()
        else:
            lmd = self.plan.lmd(now, self.lmd)
            if lmd > 0:
                self._project(lmd, lr)
        self._step = now + 1
        if self._step == self.plan.total:
            self.finish()

    def mask(self) -> Mask:
        """The frozen mask; before the freeze, the mask that would be frozen now. Meets the FLOPs target."""
        return self._space.mask(self.program, self._keep) if self._frozen else self._calibrated()

    def present_mask(self) -> Mask:
        """The mask in force: all kept, then one drawn an epoch, then the frozen one."""
        return self._space.mask(self.program, self._keep)

    def finish(self, optimizer: torch.optim.Optimizer | None = None) -> Mask:
        """Freeze the mask if it is not yet, and set every dropped unit's producers to exactly zero.

        From now on the plain model computes what its compact version computes. Called by itself at ``total_steps``.
        Further calls of :meth:`step` hold the zeros while the rest trains on.

        Args:
            optimizer: its momentum of dropped units is zeroed as well, so that it cannot move them again.
        """
        if not self._frozen:
            self._freeze()
        producers = self._producers()
        if not self._finished and producers.count:
            self._logged["residual"] = float(producers.squares().max().sqrt())
        producers.zero_()
        if optimizer is not None:
            producers.clear_momentum_(optimizer)
        self._finished = True
        return self.mask()

    def metrics(self) -> dict[str, float]:
        """Kept fraction (``flops``) and ``dropped`` units of the present mask, phase, and the controller's last losses.

        After :meth:`finish` also ``residual``: the largest norm a dropped unit still had. Near zero, nothing was lost.
        """
        return {
            "flops": self._present_flops,
            "dropped": float((~self._keep).sum()),
            "frozen": float(self._frozen),
            "lambda": self.plan.lmd(max(0, self._step - 1), self.lmd),
            **self._logged,
        }

    def state_dict(self) -> dict[str, StateValue]:
        """Flat: tensors and JSON scalars. Loading it continues bit for bit, draws included."""
        state: dict[str, StateValue] = {
            "step": self._step,
            "updates": self._updates,
            "frozen": self._frozen,
            "finished": self._finished,
            "present_flops": self._present_flops,
            "total_steps": self.plan.total,
            "flops": self.targets.flops,
            "units": self._space.total,
            "keep": self._keep.clone(),
            **self._training.state_dict(),
        }
        state.update({f"projection.{position}": kept for position, kept in enumerate(self._projection.state())})
        state.update({f"metrics.{name}": value for name, value in self._logged.items()})
        return state

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            ConfigError: the state was saved for another model, target or length of training.
        """
        mine = {"total_steps": self.plan.total, "flops": self.targets.flops, "units": self._space.total}
        for name, own in mine.items():
            if state.get(name) != own:
                raise ConfigError(f"this state belongs to another run of ATO: {name} is {state.get(name)}, here {own}")
        self._training.load_state_dict(state)
        self._step = int(number(state, "step"))
        self._updates = int(number(state, "updates"))
        self._frozen = bool(number(state, "frozen"))
        self._finished = bool(number(state, "finished"))
        self._logged = {name: number(state, f"metrics.{name}") for name in under(state, "metrics.")}
        self._keep = tensor(state, "keep").cpu().bool()
        self._present_flops = number(state, "present_flops")
        self._dropped = None
        kept = under(state, "projection.")
        if kept:
            self._projection.restore([tensor(kept, str(position)) for position in range(len(kept))])
            self._dropped = Dropped(self.program, self._space, self._axes, self._keep)

    def _calibrated(self) -> Mask:
        scores = self._space.split(self._training.logits())
        return calibrate(self.program, self._space.groups, scores, self.target, limits=self._limits).mask

    def _freeze(self) -> None:
        self._put_in_force(self._space.join(self._calibrated()).bool())
        self._frozen = True

    def _put_in_force(self, keep: torch.Tensor) -> None:
        self._keep = parallel.agree(keep, self._device())
        self._dropped = None
        self._present_flops = int(self.program.flops(self.present_mask())) / self.targets.total

    def _producers(self) -> Dropped:
        if self._dropped is None:
            self._dropped = Dropped(self.program, self._space, self._axes, self._keep)
        return self._dropped

    def _project(self, lmd: float, lr: float) -> None:
        fresh = self._dropped is None
        producers = self._producers()
        if fresh:
            self._projection.begin(producers)
        if producers.count:
            self._projection.step(producers, lmd=lmd, lr=lr)

    def _device(self) -> torch.device:
        """Where the model is; gates go there, and processes communicate there."""
        return self.program.tensor(self._axes[0].name).device if self._axes else torch.device("cpu")


def _projection(choice: Literal["proximal", "half-space"] | Projection) -> Projection:
    if choice == "proximal":
        return Proximal()
    if choice == "half-space":
        return HalfSpace()
    if isinstance(choice, str):
        raise ConfigError(f"projection={choice!r} is unknown; it is 'proximal' (default) or 'half-space'")
    return choice
