"""Where tensors meet element by element: whose ids become one, what stays whole, what is zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atofx.ir.values import ANYTHING, Labels, Layer, Run, TensorValue, as_tensor
from atofx.ops.context import LineageContext
from atofx.ops.layers import align_layer

#: The operands' values at rest (None: anything) -> the result's: a number, ANYTHING, or infinity for no finite number.
AtRest = Callable[[tuple[float | None, ...]], float]

#: Ids that vary along a common dimension, and the (operand, layer) pairs that have them.
Bundle = tuple[Labels, list[tuple[int, Layer]]]


def zero_if(predicate: Callable[[tuple[bool, ...]], bool]) -> AtRest:
    """Zero where the predicate on which operands are zero holds, else anything."""
    return lambda rests: 0.0 if predicate(tuple([r == 0 for r in rests])) else ANYTHING


def meet(
    ctx: LineageContext,
    operands: Sequence[TensorValue],
    shape: tuple[int, ...],
    value: AtRest,
) -> list[Layer]:
    """Layers of an element-wise result.

    Args:
        ctx: the run.
        operands: the tensors that meet.
        shape: the broadcast shape.
        value: the result's value at rest from those of the operands.
    """
    ndim = len(shape)
    fills = tuple([operand.fill for operand in operands])
    layers: list[tuple[int, Layer]] = []
    for i, operand in enumerate(operands):
        aligned = operand.ndim == ndim
        layers += [(i, layer if aligned else align_layer(layer, ndim)) for layer in operand.layers]
    result = []
    for ids, parts in join(ctx, layers, "meets coordinates that are always kept"):
        members = {i for i, _ in parts}
        rest, infinite = _at_rest(ids, parts, fills, value)
        leaves = [(i, layer) for i, layer in parts if operands[i].moved_leaf]
        if infinite is not None and leaves:  # a divisor that is only cut, not set to zero?
            apart = [(i, layer.with_rest(ANYTHING) if operands[i].moved_leaf else layer) for i, layer in parts]
            rest, infinite = _at_rest(ids, apart, fills, value)
            mark = ctx.mark_divisor
        else:
            mark = ctx.mark_produced
        for _, leaf in leaves:
            mark(leaf.labels)
        if infinite is not None:
            ctx.pin_ids(
                as_tensor(ids).expand(infinite.shape)[infinite],
                "the result is not a finite number where its channel is removed (for example zero divided by zero); "
                "add a small constant to the divisor",
            )
        layer = Layer(ids, rest)
        tied: Layer | None = layer
        if len(members) < len(operands):
            others = [operand for i, operand in enumerate(operands) if i not in members]
            fixed = [d for d in layer.dims if any(_has_extent(other, d, ndim) for other in others)]
            tied = beside(ctx, layer, fixed, "meets a tensor whose coordinates are always kept")
        if tied is not None:
            result.append(tied if len(parts) == 1 else leanest(ctx, tied, [part for _, part in parts]))
    return result


def join(ctx: LineageContext, layers: Sequence[tuple[int, Layer]], why: str) -> list[Bundle]:
    """Couple what varies along a common dimension.

    Args:
        ctx: the run.
        layers: (operand, layer) pairs of equally many dimensions.
        why: the reason where ids meet coordinates that are always kept.

    Returns:
        The ids of each bundle, and the layers in it.
    """
    if len(layers) == 1:
        return [(layers[0][1].labels, list(layers))]
    along = _by_dim(layers)
    if along is not None:
        return [(ctx.couple([layer.labels for _, layer in parts], why), parts) for parts in along]
    shapes = {layer.shape for _, layer in layers}
    if len(shapes) == 1 and max(next(iter(shapes)), default=1) > 1:
        return [(ctx.couple([layer.labels for _, layer in layers], why), list(layers))]
    bundles: list[Bundle] = []
    for i, layer in layers:
        ids, parts = layer.labels, [(i, layer)]
        apart: list[Bundle] = []
        met: list[Bundle] = []
        for bundle in bundles:
            (met if share_dim(bundle[0], ids) else apart).append(bundle)
        bundles = apart
        for other in met:
            same = other[0].shape == ids.shape
            ids = ctx.couple([other[0], ids], why) if same else ctx.unify(as_tensor(other[0]), as_tensor(ids), why)
            parts = other[1] + parts
        bundles.append((ids, parts))
    return bundles


def _by_dim(layers: Sequence[tuple[int, Layer]]) -> list[list[tuple[int, Layer]]] | None:
    """Layers that are runs, by the dimension they lie along, where all are of one length; None where some are no runs.

    A bundle stands where its last layer does.
    """
    bundles: dict[int, list[tuple[int, Layer]]] = {}
    for pair in layers:
        run = pair[1].labels
        if not isinstance(run, Run) or run.shape[run.dim] == 1:
            return None
        parts = bundles.pop(run.dim, [])
        parts.append(pair)
        bundles[run.dim] = parts
    return list(bundles.values())


def leanest(ctx: LineageContext, layer: Layer, parts: Sequence[Layer]) -> Layer:
    """The layer along the dimensions that all its parts vary along, if there are any.

    A part that lacks a dimension (one table for all heads) couples what differs only along that one; said at once, what
    comes next need not choose between heads and their dimensions.
    """
    if isinstance(layer.labels, Run):  # so are all parts, and of the same shape
        return layer
    shape, dims = layer.shape, layer.dims
    if all(part.labels.shape == shape or part.dims == dims for part in parts):
        return layer
    common = set.intersection(*(set(part.dims) for part in parts))
    return ctx.tie(layer, [d for d in layer.dims if d not in common]) if common else layer


def beside(ctx: LineageContext, layer: Layer, fixed: Sequence[int], why: str) -> Layer | None:
    """The layer where it meets a tensor that keeps all its coordinates along the dimensions ``fixed``.

    Units can only be whole slices along the other dimensions. If there are none it is pinned with ``why``, and the
    result has no such layer: what keeps all its coordinates needs no names for them (rows of a table of positions would
    name all tokens from here on).
    """
    if fixed and len(fixed) == len(layer.dims):
        ctx.pin(layer, why)
        return None
    return ctx.tie(layer, fixed) if fixed else layer


def share_dim(a: Labels, b: Labels) -> bool:
    """Whether two labels vary along a common dimension."""
    if isinstance(a, Run) and isinstance(b, Run):
        return a.dim == b.dim and a.size > 1 and b.size > 1
    return any(x > 1 and y > 1 for x, y in zip(a.shape, b.shape, strict=True))


def _has_extent(operand: TensorValue, dim: int, ndim: int) -> bool:
    offset = ndim - operand.ndim
    return dim >= offset and operand.shape[dim - offset] > 1


def _at_rest(
    ids: Labels, parts: Sequence[tuple[int, Layer]], fills: Sequence[float | None], value: AtRest
) -> tuple[float | Tensor, Tensor | None]:
    """(values at rest, where they are no finite numbers) per id: ``value`` for every combination that occurs.

    An operand without a part is what it is filled with, if that is one number.
    """
    numbers: dict[int, float] = {}
    for i, layer in parts:
        one = layer.at_rest
        if not isinstance(one, float):
            if not layer.clean:
                break
            one = 0.0
        if math.isnan(numbers.get(i, ANYTHING)):
            numbers[i] = one
    else:  # every layer has the same value at rest for all its ids
        known = {i: number for i, number in numbers.items() if not math.isnan(number)}
        result = value(tuple([known.get(i, fill) for i, fill in enumerate(fills)]))
        if math.isinf(result):
            return ANYTHING, torch.ones(ids.shape, dtype=torch.bool)
        return float(result), None
    rests: dict[int, Tensor] = {}
    for i, layer in parts:
        rests[i] = torch.where(rests[i].isnan(), layer.rest, rests[i]) if i in rests else layer.rest
    code = torch.zeros(ids.shape, dtype=torch.long)
    for rest in rests.values():
        distinct, entry = torch.unique(rest.nan_to_num(_NO_NUMBER), return_inverse=True)
        code = code * distinct.numel() + entry
    patterns, inverse = torch.unique(code, return_inverse=True)
    results = []
    for pattern in patterns.tolist():
        place = int((code == pattern).reshape(-1).nonzero()[0])
        found = {i: float(rest.expand(ids.shape).reshape(-1)[place]) for i, rest in rests.items()}
        known = {i: number for i, number in found.items() if not math.isnan(number)}
        results.append(value(tuple([known.get(i, fill) for i, fill in enumerate(fills)])))
    table = torch.tensor(results, dtype=torch.float64)
    infinite = table.isinf()
    rest = torch.where(infinite, ANYTHING, table)[inverse]
    return rest, infinite[inverse] if bool(infinite.any()) else None


_NO_NUMBER = -1e308  # stands for "anything" where equal values are looked for
