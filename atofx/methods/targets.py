"""The FLOPs target: kept fraction of the whole model, kept fraction of its prunable part, and the least there is."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.methods.selection import GroupFilter, UnitSpace, select, soft_flops

if TYPE_CHECKING:
    from atofx.program import Program


@dataclass(frozen=True)
class Targets:
    """A FLOPs target in both of its spellings. FLOPs are multiply-adds counted once.

    The prunable part is every FLOP that some chosen group touches: ``prunable = F(all kept) - F(nothing of the chosen
    groups kept)``. This is what the authors of ATO count for their networks (all convolutions next to a gate).

    Attributes:
        flops: target as the kept fraction of the whole model.
        p: target as the kept fraction of the prunable part.
        total: FLOPs of the dense model.
        prunable: FLOPs of the prunable part.
        least_flops: FLOPs with as few units as the limits allow in every chosen group: no mask goes below.
        limits: minimum widths and rounding.
    """

    flops: float
    p: float
    total: int
    prunable: int
    least_flops: int
    limits: Limits = NO_LIMITS

    @property
    def least(self) -> float:
        """The least kept fraction of the whole model."""
        return self.least_flops / self.total

    @property
    def wanted_flops(self) -> float:
        """The target in FLOPs."""
        return self.flops * self.total

    def require_reachable(self, tolerance: float = 0.01) -> None:
        """Raise TargetError if no mask comes down to the target."""
        if self.least_flops > self.wanted_flops * (1 + tolerance):
            raise unreachable(self.flops, self.least_flops, self.total, self.limits)


def unreachable(flops: float, least: int, total: int, limits: Limits) -> TargetError:
    """The error that no mask comes down to ``flops``: what the least is, and what can be done."""
    floor = "with one unit left in every group" if limits == NO_LIMITS else "with the least that the limits allow"
    relax = "" if limits == NO_LIMITS else "relax the limits (minimum widths, minimum share, rounding), "
    fraction = f"{least / total:.4f}"
    return TargetError(
        f"cannot keep only {flops:.4f} of the FLOPs: the smallest mask, {floor}, still has {least} of {total} "
        f"multiply-adds, {fraction} of all. Ask for flops >= {fraction}, {relax}or let more groups be pruned "
        "(program.summary() and `atofx inspect` say what is pinned and why)."
    )


def targets(
    program: Program,
    *,
    flops: float | None = None,
    p: float | None = None,
    groups: GroupFilter = None,
    limits: Limits = NO_LIMITS,
) -> Targets:
    """Convert a target: ``flops = (F_total - F_prunable + p * F_prunable) / F_total``.

    Args:
        program: the traced model.
        flops: kept fraction of the whole model's FLOPs; or
        p: kept fraction of the prunable part's FLOPs.
        groups: which prunable groups count (see :data:`GroupFilter`).
        limits: minimum widths and rounding; they bound the least.

    Raises:
        ConfigError: not exactly one of ``flops`` and ``p``, or not in (0, 1]; a pattern names no group.
    """
    if (flops is None) == (p is None):
        raise ConfigError(
            "give the FLOPs target once: flops= (kept fraction of the whole model) or p= (of its prunable part)"
        )
    given: tuple[tuple[str, Any], ...] = (("flops", flops), ("p", p))
    for name, value in given:
        if value is not None and not (isinstance(value, Real) and 0 < float(value) <= 1):
            raise ConfigError(
                f"{name}={value!r} is not a kept fraction; it lies in (0, 1], 0.5 keeps half of the FLOPs"
            )
    space = UnitSpace(select(program, groups))
    total = int(program.flops())
    fixed = round(float(soft_flops(program, space, torch.zeros(space.total, dtype=torch.float64))))
    nothing = torch.zeros(space.total, dtype=torch.bool)
    fewest = space.within(nothing, torch.zeros(space.total), limits.allowed_counts(program.prunable))
    least = int(program.flops(space.mask(program, fewest)))
    prunable = total - fixed
    if flops is None:
        assert p is not None
        flops = (fixed + p * prunable) / total
    else:
        p = (flops * total - fixed) / prunable if prunable else 1.0
    return Targets(flops=flops, p=p, total=total, prunable=prunable, least_flops=least, limits=limits)
