"""When ATO does what, as fractions of any training: ours, and the published timeline of 245 epochs."""

from __future__ import annotations

from dataclasses import dataclass

from atofx.errors import ConfigError
from atofx.methods.phases import require_fraction, step_of

LAMBDA_EARLY = 10.0
LAMBDA_LATE = 1000.0
EVERY = 20
CONTROLLER_LR = 1e-3


@dataclass(frozen=True)
class Schedule:
    """Fractions of the whole training.

    By default the projection begins as the mask is frozen. Each step shrinks a dropped unit by lambda times learning
    rate times the group's share of all dropped units: at SGD's rates the unit is zero after some twenty steps, and one
    without producers gets no gradient. While the mask still changes that would kill units which the final mask keeps.
    At AdamW's rates it takes epochs, and units come back: :data:`PUBLISHED`.

    Attributes:
        t_start: T_start, the controller begins.
        t_w: T_w, the projection begins; before it the model trains undisturbed.
        t_lambda: the strength of the projection goes from 10 to 1000.
        t_decay: the controller's learning rate drops tenfold.
        t_end: T_end, the controller stops and the mask is frozen.
    """

    t_start: float = 0.1
    t_w: float = 0.4
    t_lambda: float = 0.4
    t_decay: float = 0.39
    t_end: float = 0.4

    def __post_init__(self) -> None:
        for name in ("t_start", "t_w", "t_lambda", "t_decay", "t_end"):
            require_fraction(name, getattr(self, name))
        if self.t_start > self.t_end:
            raise ConfigError(f"t_start={self.t_start} lies after t_end={self.t_end}: the controller would never train")


#: The authors' ImageNet runs with AdamW, learning rate 1e-3: E = 245 epochs, 5 of them warm-up; T_start 25, T_w 50,
#: lambda switch int((E - 5) / 2) = 120, decay int(0.98 (E - 5) / 2 + 5) = 122, T_end int((E - 5) / 2) + 5 = 125.
PUBLISHED = Schedule(25 / 245, 50 / 245, 120 / 245, 122 / 245, 125 / 245)


@dataclass(frozen=True)
class Plan:
    """The schedule in optimizer steps (0-based), with the controller's pace.

    Attributes:
        start, warm, late, decay, end: first step of each phase (T_start, T_w, lambda switch, lr drop, T_end).
        total: optimizer steps of the whole training.
        every: model steps per controller step.
        resample: model steps per mask drawn (an epoch).
        lr: the controller's learning rate.
    """

    start: int
    warm: int
    late: int
    decay: int
    end: int
    total: int
    every: int
    resample: int
    lr: float

    @property
    def updates(self) -> int:
        """Number of controller steps in the whole training."""
        return -(-(self.end - self.start) // self.every)

    def is_controller_step(self, step: int) -> bool:
        """Whether the controller learns at ``step``."""
        return self.start <= step < self.end and (step - self.start) % self.every == 0

    def is_resample_step(self, step: int) -> bool:
        """Whether a new mask is drawn at ``step``."""
        return self.start <= step < self.end and (step - self.start) % self.resample == 0

    def lmd(self, step: int, fixed: float = 0.0) -> float:
        """lambda: ``fixed`` if positive, else 10 before the switch and 1000 after; 0 before T_w."""
        if step < self.warm:
            return 0.0
        if fixed > 0:
            return fixed
        return LAMBDA_EARLY if step < self.late else LAMBDA_LATE


def plan(
    schedule: Schedule, total_steps: int, *, every: int | None, steps_per_epoch: int | None, lr: float | None
) -> Plan:
    """Steps from fractions. ``every``, ``lr`` and ``steps_per_epoch`` left at None follow the rules for short runs.

    Raises:
        ConfigError: a count is below 1, or the learning rate is not positive.
    """
    for name, value in (("total_steps", total_steps), ("every", every), ("steps_per_epoch", steps_per_epoch)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value} must be at least 1")
    if lr is not None and not lr > 0:
        raise ConfigError(f"controller_lr={lr} must be positive")
    fractions = (schedule.t_start, schedule.t_w, schedule.t_lambda, schedule.t_decay, schedule.t_end)
    start, warm, late, decay, end = (step_of(fraction, total_steps) for fraction in fractions)
    pace = every or controller_pace(end - start)
    return Plan(
        start=start,
        warm=warm,
        late=late,
        decay=decay,
        end=end,
        total=total_steps,
        every=pace,
        resample=steps_per_epoch or max(1, total_steps // 100),
        lr=lr or controller_lr(-(-(end - start) // pace)),
    )


def controller_pace(window: int, *, wanted: int = 100, most_often: int = 5) -> int:
    """Model steps per controller step: 20 as published, down to 5 where ``window`` would hold under 100 of them."""
    return min(EVERY, max(most_often, window // wanted))


def controller_lr(updates: int, *, travel: float = 0.5, most: float = 1e-2) -> float:
    """The controller's learning rate for a window of ``updates`` steps: ``clip(0.5 / updates, 1e-3, 1e-2)``.

    AdamW moves a weight by about ``lr`` a step, so ``lr * updates`` bounds how far it can travel. A unit's logit has to
    fall from 0 to about -3.4 before it is dropped every other time. Published runs (6,250 steps at 1e-3) have plenty of
    room and keep 1e-3; a run of 30 short epochs has a few dozen steps and would end far above its target at 1e-3.
    """
    return min(most, max(CONTROLLER_LR, travel / max(1, updates)))
