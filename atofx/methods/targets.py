"""The FLOPs target: kept fraction of the whole model, kept fraction of its prunable part, and the least there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atofx.errors import ConfigError, TargetError
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
        least_flops: FLOPs with a single unit left in every chosen group: no mask goes below.
    """

    flops: float
    p: float
    total: int
    prunable: int
    least_flops: int

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
            raise TargetError(
                f"cannot keep only {self.flops:.4f} of the FLOPs: with one unit left in every group the model still "
                f"has {self.least_flops} of {self.total} multiply-adds, {self.least:.4f} of all. Ask for flops >= "
                f"{self.least:.4f}, or let more groups be pruned (program.summary() says what is pinned and why)."
            )


def targets(
    program: Program, *, flops: float | None = None, p: float | None = None, groups: GroupFilter = None
) -> Targets:
    """Convert a target: ``flops = (F_total - F_prunable + p * F_prunable) / F_total``.

    Args:
        program: the traced model.
        flops: kept fraction of the whole model's FLOPs; or
        p: kept fraction of the prunable part's FLOPs.
        groups: which prunable groups count (see :data:`GroupFilter`).

    Raises:
        ConfigError: not exactly one of ``flops`` and ``p``, or not in (0, 1].
    """
    if (flops is None) == (p is None):
        raise ConfigError(
            "give the FLOPs target once: flops= (kept fraction of the whole model) or p= (of its prunable part)"
        )
    for name, value in (("flops", flops), ("p", p)):
        if value is not None and not 0 < value <= 1:
            raise ConfigError(f"{name}={value} is not a kept fraction; it lies in (0, 1], 0.5 keeps half of the FLOPs")
    space = UnitSpace(select(program, groups))
    total = int(program.flops())
    fixed = round(float(soft_flops(program, space, torch.zeros(space.total, dtype=torch.float64))))
    first = torch.zeros(space.total, dtype=torch.bool)
    first[space.offsets] = True
    least = int(program.flops(space.mask(program, first)))
    prunable = total - fixed
    if flops is None:
        assert p is not None
        flops = (fixed + p * prunable) / total
    else:
        p = (flops * total - fixed) / prunable if prunable else 1.0
    return Targets(flops=flops, p=p, total=total, prunable=prunable, least_flops=least)
