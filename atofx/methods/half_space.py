"""The formulas of half-space optimizers on vectors of units: who is projected, how hard a unit is pulled, who may go.

Sources: OTO (Chen et al., NeurIPS 2021, arXiv 2107.07467; HSPG) and OTOv2 (Chen et al., ICLR 2023, arXiv 2303.06862;
DHSPG), and their authors' code. x is a unit's parameters before the optimizer step, g its gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

NORM_EPS = 1e-6
EPSILON_STEP = 0.1
EPSILON_MOST = 0.999
SLOW_GROWTH = 0.01


def pull(lmd: torch.Tensor | float, squares: torch.Tensor) -> torch.Tensor:
    """``lambda / (||x|| + 1e-6)``: x times this is the sub-gradient of ``lambda ||x||``; 0 at zero units.

    Args:
        lmd: penalty, one number or one per unit.
        squares: (units,), ``||x||^2``.
    """
    norm = squares.sqrt()
    return torch.where(norm > 0, lmd / (norm + NORM_EPS), torch.zeros_like(norm))


def turns_away(trial: torch.Tensor, squares: torch.Tensor, epsilon: torch.Tensor | float) -> torch.Tensor:
    """Half-space test: True where ``<trial, x> < epsilon ||x||^2``; never of a zero unit.

    Args:
        trial: (units,), inner product of the trial point with x.
        squares: (units,), ``||x||^2``.
        epsilon: in [0, 1); larger projects more.
    """
    return (trial < epsilon * squares) & (squares > 0)


def outweighing(
    base: torch.Tensor,
    wanted: Callable[[torch.Tensor], torch.Tensor],
    squares: torch.Tensor,
    products: torch.Tensor,
    gradients: torch.Tensor,
) -> torch.Tensor:
    """Penalties of units so that no gradient step enlarges them.

    ``base``, but where ``<x, g> < 0``: with ``lambda_min = -<x, g> / ||x||`` and
    ``lambda_max = -||g||^2 ||x|| / <x, g>``, what is ``wanted`` of lambda_min, or ``(lambda_min + lambda_max) / 2`` if
    that reaches lambda_max.

    Args:
        base: (units,), the penalty otherwise.
        wanted: lambda_min -> penalty, (units,) both.
        squares: (units,), ``||x||^2``.
        products: (units,), ``<x, g>``.
        gradients: (units,), ``||g||^2``.
    """
    norm = squares.sqrt()
    low = -products / norm
    high = -gradients * norm / products
    penalty = wanted(low)
    penalty = torch.where(penalty >= high, (low + high) / 2, penalty)
    return torch.where((products < 0) & (norm > 0), penalty, base)


def penalties(
    lmd: float, squares: torch.Tensor, products: torch.Tensor, gradients: torch.Tensor, *, amplify: float, cap: float
) -> torch.Tensor:
    """DHSPG's penalty of each redundant unit: lambda, or ``clip(amplify lambda_min, lambda, cap lambda)`` outweighing.

    Args:
        lmd: lambda.
        squares: (units,), ``||x||^2``.
        products: (units,), ``<x, g>``.
        gradients: (units,), ``||g||^2``.
        amplify: factor on lambda_min.
        cap: most, in multiples of lambda.
    """
    base = torch.full_like(squares, lmd)
    return outweighing(base, lambda low: (amplify * low).clamp(lmd, cap * lmd), squares, products, gradients)


def first_of_each(
    wanted: torch.Tensor, order_by: torch.Tensor, owner: torch.Tensor, room: torch.Tensor
) -> torch.Tensor:
    """Of the wanted units at most ``room`` of every owner: those with the smallest keys.

    Args:
        wanted: BoolTensor (units,).
        order_by: (units,), the keys.
        owner: LongTensor (units,), in [0, owners).
        room: LongTensor (owners,); below 0 counts as 0.
    """
    keys = torch.where(wanted, order_by, torch.full_like(order_by, torch.inf))
    order = torch.argsort(keys, stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    owners = owner[order]
    starts = torch.searchsorted(owners, torch.arange(len(room), device=owners.device))
    rank = torch.arange(len(order), device=order.device) - starts[owners]
    chosen = torch.zeros_like(wanted)
    chosen[order] = rank < room[owners]
    return chosen & wanted


def adapted_epsilon(
    epsilon: torch.Tensor, sparsity: torch.Tensor, before: torch.Tensor, most: torch.Tensor
) -> torch.Tensor:
    """Adaptive epsilon: 0.1 more, up to 0.999, while sparsity is below its cap and has not grown by more than 0.01.

    Args:
        epsilon: present values, one per kind of group.
        sparsity: share of zero units now.
        before: the same at the last adaptation.
        most: cap on the share of zero units.
    """
    stuck = (sparsity < most) & (sparsity - before <= SLOW_GROWTH)
    return torch.where(stuck, (epsilon + EPSILON_STEP).clamp(max=EPSILON_MOST).maximum(epsilon), epsilon)
