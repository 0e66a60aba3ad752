"""ATO's resource regulariser: pulls the kept fraction of the FLOPs to the target from both sides."""

from __future__ import annotations

import torch

MARGIN = 0.005
REG_W = 4.0
_LEAST = 1e-6


def resource_loss(kept: torch.Tensor, target: float, *, margin: float = MARGIN) -> torch.Tensor:
    """R = ln(max(kept, target + margin) / target) if kept > target else ln(target / min(kept, target - margin)).

    Authors' code of ATO. Within ``margin`` of the target the clamp makes the gradient zero and leaves a small constant.
    ``kept`` is clamped at 1e-6 so that an (almost) empty draw gives a large finite loss.

    Args:
        kept: kept fraction of the FLOPs, differentiable scalar.
        target: wanted fraction, of the same part of the model.
        margin: half the width of the band without gradient.
    """
    if bool(kept > target):
        return torch.log(kept.clamp(min=target + margin) / target)
    return torch.log(target / kept.clamp(max=max(target - margin, _LEAST)).clamp(min=_LEAST))


def weight(reg_w: float = REG_W) -> float:
    """Gamma = 2 * reg_w. The paper and the README name 4; the authors' training step doubles it, and so do we: 8."""
    return 2.0 * reg_w
