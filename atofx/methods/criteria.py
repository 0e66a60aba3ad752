"""Importance of units for one-shot pruning: one function a criterion, ``(program, space, data) -> (total,) scores``.

All criteria range over the producers of a unit (the filters, biases, norm gammas and betas whose zeroing removes it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from atofx.errors import ConfigError
from atofx.methods.producers import producer_axes
from atofx.methods.protocol import Batch, call
from atofx.methods.selection import UnitSpace

if TYPE_CHECKING:
    from atofx.program import Program


@dataclass(frozen=True)
class Data:
    """What criteria may need beside the weights.

    Attributes:
        batches: ``(inputs, targets)`` pairs for gradients.
        loss_fn: loss whose gradient counts.
        seed: for random scores.
    """

    batches: Iterable[Batch] = field(default_factory=tuple)
    loss_fn: Callable[[Any, Any], torch.Tensor] = functional.cross_entropy
    seed: int = 0


Criterion = Callable[["Program", UnitSpace, Data], torch.Tensor]


def l1(program: Program, space: UnitSpace, data: Data) -> torch.Tensor:
    """Sum of absolute values of the unit's producers (Li et al. 2017, over whole units)."""
    return _sum(program, space, torch.abs)


def l2(program: Program, space: UnitSpace, data: Data) -> torch.Tensor:
    """Euclidean norm of the unit's producers."""
    return _sum(program, space, torch.square).sqrt()


def bn_scale(program: Program, space: UnitSpace, data: Data) -> torch.Tensor:
    """Mean absolute gamma of the unit's norms (Network Slimming, Liu et al. 2017).

    Raises:
        ConfigError: a group has no norm with a scale.
    """

    def is_scale(name: str, tensor: torch.Tensor) -> bool:
        return tensor.dim() == 1 and name.rpartition(".")[2] == "weight"

    counts = _sum(program, space, torch.ones_like, is_scale)
    bare = [name for name, count in space.split(counts).items() if bool((count == 0).any())]
    if bare:
        raise ConfigError(
            f"criterion 'bn-scale' needs a norm with a scale in every group; these have none: {', '.join(bare)}. "
            "Leave them out with groups=, or use 'l2'"
        )
    return _sum(program, space, torch.abs, is_scale) / counts


def taylor(program: Program, space: UnitSpace, data: Data) -> torch.Tensor:
    """Squared first-order change of the loss, (sum over producers of w dL/dw)^2, mean over batches.

    Molchanov et al. 2019, equation 8.

    Raises:
        ConfigError: no batches were given.
    """
    program.require_values("criterion 'taylor'")
    names = list(dict.fromkeys(axis.name for axis in producer_axes(space)))
    parameters = {n: t for n in names if isinstance(t := program.tensor(n), torch.nn.Parameter) and t.requires_grad}
    total = torch.zeros(space.total, dtype=torch.float64)
    count = 0
    modes = [(module, module.training) for module in program.module.modules()]
    program.module.eval()
    try:
        for inputs, labels in data.batches:
            loss = data.loss_fn(call(program.module, inputs), labels)
            gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
            products = {n: (p.detach() * gradients[n]) for n, p in parameters.items()}
            total += _reduce(space, products).square()
            count += 1
    finally:
        for module, training in modes:
            module.training = training
    if not count:
        raise ConfigError("criterion 'taylor' needs data: pass batches=[(inputs, targets), ...]")
    return total / count


def random(program: Program, space: UnitSpace, data: Data) -> torch.Tensor:
    """Uniform random scores: the baseline every criterion has to beat."""
    return torch.rand(space.total, generator=torch.Generator().manual_seed(data.seed), dtype=torch.float64)


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {"l1": l1, "l2": l2, "bn-scale": bn_scale, "taylor": taylor, "random": random}
)


def criterion(name: str) -> Criterion:
    """The criterion called ``name``.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    near = get_close_matches(name, CRITERIA, n=1, cutoff=0.0)
    raise ConfigError(f"unknown criterion {name!r}; did you mean {near[0]!r}? There are: {', '.join(CRITERIA)}")


def _sum(
    program: Program,
    space: UnitSpace,
    value: Callable[[torch.Tensor], torch.Tensor],
    wanted: Callable[[str, torch.Tensor], bool] = lambda name, tensor: True,
) -> torch.Tensor:
    program.require_values("a criterion that looks at weights")
    tensors = {axis.name: program.tensor(axis.name).detach() for axis in producer_axes(space)}
    chosen = {
        n: value(t.double())
        for n, t in tensors.items()
        if isinstance(program.tensor(n), torch.nn.Parameter) and wanted(n, t)
    }
    return _reduce(space, chosen)


def _reduce(space: UnitSpace, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Sum of ``values`` over the coordinates of every unit, flat and in float64."""
    total = torch.zeros(space.total, dtype=torch.float64)
    for axis in producer_axes(space):
        if axis.name not in values:
            continue
        value = values[axis.name].detach().double().cpu()
        others = [d for d in range(value.dim()) if d != axis.dim]
        per_coordinate = value.sum(others) if others else value
        inside = axis.unit >= 0
        total.index_add_(0, axis.unit[inside], per_coordinate[inside])
    return total
