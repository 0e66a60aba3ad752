"""How scores of units of different groups compare: what decides how much each group keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from atofx.program import Program

Scope = Literal["global", "uniform", "traffic"]
"""``"global"`` compares all units; ``"uniform"`` keeps the same share of every group; ``"traffic"`` keeps less of those
that move more memory for their multiply-adds."""

_EMPHASIS = 2.5  # exponent of the ratio of traffic to FLOPs
_STEEPEST = 9.0  # exponent of a share, at most; its inverse at least
_FLOOR = 1 / 3  # of the common share, which every group keeps


def comparable(program: Program, scores: Mapping[str, torch.Tensor], scope: Scope) -> dict[str, torch.Tensor]:
    """Scores that one threshold over all groups may be held against, in the same order within each group.

    Args:
        program: the traced model.
        scores: one vector a group, higher stays longer.
        scope: see :data:`Scope`. With ``"traffic"``, where ``"uniform"`` would keep a share s of every group, a group
            keeps s^w, a third of s at least: w is its part of the elements written over its part of the FLOPs, to the
            power of 2.5, between a ninth and nine. A group without FLOPs keeps s.
    """
    if scope == "global":
        return {name: _by_mean(score) for name, score in scores.items()}
    powers = _powers(program, scores) if scope == "traffic" else dict.fromkeys(scores, 1.0)
    return {name: _by_rank(score, powers[name]) for name, score in scores.items()}


def _by_mean(scores: torch.Tensor) -> torch.Tensor:
    """Scores over their group's mean, so that groups of different width and scale compare."""
    mean = scores.mean()
    return scores / mean if float(mean) > 0 else scores


def _by_rank(scores: torch.Tensor, power: float) -> torch.Tensor:
    """1 - min(r^(1 / power), 3 r), r = (rank + 1/2) / size: the threshold 1 - s then keeps max(s^power, s / 3)."""
    rank = torch.empty(len(scores), dtype=torch.float64)
    rank[torch.argsort(scores, descending=True, stable=True)] = torch.arange(len(scores), dtype=torch.float64)
    relative = (rank + 0.5) / len(scores)
    return 1 - torch.minimum(relative ** (1 / power), relative / _FLOOR)


def _powers(program: Program, names: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Exponents of the groups' shares, from the marginal costs of their units."""
    ones = {g.name: torch.ones(g.size, dtype=torch.float64, requires_grad=True) for g in program.prunable}
    gradients = torch.autograd.grad(program.flops(ones), list(ones.values()), materialize_grads=True)
    flops = {name: float(gradient.sum()) for name, gradient in zip(ones, gradients, strict=True)}
    unit = program.elements_per_unit()
    elements = {name: unit[name] * len(names[name]) for name in names}
    whole = sum(flops[name] for name in names), sum(elements.values())
    return {name: _limited(elements[name] * whole[0], flops[name] * whole[1]) for name in names}


def _limited(numerator: float, denominator: float) -> float:
    """Ratio^2.5, between a ninth and nine; 1 for a group without FLOPs, which nothing is saved by cutting deeper."""
    if denominator <= 0:
        return 1.0
    power = float((numerator / denominator) ** _EMPHASIS)
    return min(max(power, 1 / _STEEPEST), _STEEPEST)
