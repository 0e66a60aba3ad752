"""What a search pays for the network it would choose."""

from __future__ import annotations

import torch


def cost_term(expected: torch.Tensor, present: float, target: float, slack: float) -> torch.Tensor:
    """``+log E`` where the present choice is beyond the target, ``-log E`` where it is far below, else 0.

    Source: authors' code of *Network Pruning via Transformable Architecture Search* (equation 8 of the paper has the
    same three branches). The tolerance is on the lower side only.

    Args:
        expected: E, expected FLOPs in millions of multiply-adds, differentiable.
        present: FLOPs of the most probable network, in any unit.
        target: wanted FLOPs, in the same unit.
        slack: how far below the target costs nothing, in the same unit.
    """
    if present > target:
        return torch.log(expected)
    if present < target - slack:
        return -torch.log(expected)
    return torch.zeros_like(expected)
