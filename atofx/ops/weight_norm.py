"""Weights that are a length times a direction."""

from __future__ import annotations

import math

import torch

from atofx.ir.values import ANYTHING, TensorValue
from atofx.ops.context import LineageContext
from atofx.ops.meeting import meet
from atofx.ops.reduction import kept_through
from atofx.ops.registry import REGISTRY, OpRecord


def weight_norm(ctx: LineageContext, v: TensorValue, g: TensorValue, dim: int = 0) -> TensorValue:
    """``g * v / |v|``, with lengths over all dimensions but ``dim`` (-1: over all of them).

    A row goes with its ``g``, which makes it zero; its ``v`` is only cut, as zero has no direction. Columns are zeroed,
    and add nothing to a length.
    """
    kept = None if dim == -1 else dim % v.ndim
    mixed = [d for d in range(v.ndim) if d != kept]
    lengths = [ctx.tie(layer, mixed) for layer in v.layers if kept in layer.dims]
    if v.moved_leaf:
        for layer in lengths:
            ctx.mark_divisor(layer.labels)
        lengths = [layer.with_rest(ANYTHING) for layer in lengths]
    rows = [layer.with_rest(ANYTHING) for layer in v.layers if layer.dims == (kept,)]
    columns = TensorValue(v.meta, tuple([layer for layer in v.layers if layer.dims != (kept,)]), v.moved_leaf)
    directions = TensorValue(v.meta, (*rows, *kept_through(ctx, columns, mixed, centred=False)))
    operands = [directions, TensorValue(g.meta, tuple(lengths)), g]
    return ctx.value(ctx.out, meet(ctx, operands, v.shape, _at_rest))


def _at_rest(rests: tuple[float | None, ...]) -> float:
    direction, length, g = rests
    if length == 0:
        return math.inf
    return 0.0 if direction == 0 or g == 0 else ANYTHING


REGISTRY.add(OpRecord("weight norm", weight_norm), functions=[torch._weight_norm])
