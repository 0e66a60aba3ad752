"""Where tensors meet element by element: whose ids become one, what stays whole, what is zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atofx.ir.values import Layer, TensorValue
from atofx.ops.context import LineageContext
from atofx.ops.layers import align_layer, everywhere


def meet(
    ctx: LineageContext,
    operands: Sequence[TensorValue],
    shape: tuple[int, ...],
    is_zero: Callable[[tuple[bool, ...]], bool | None],
) -> list[Layer]:
    """Layers of an element-wise result.

    Args:
        ctx: the run.
        operands: the tensors that meet.
        shape: the broadcast shape.
        is_zero: whether the result is zero where exactly these operands are zero; None where it is no finite number.
    """
    ndim = len(shape)
    merged: list[tuple[Tensor, list[tuple[int, Layer]]]] = []
    for i, operand in enumerate(operands):
        for layer in operand.layers:
            layer = align_layer(layer, ndim)
            ids, parts = layer.ids, [(i, layer)]
            met = [m for m in merged if share_dim(m[0], ids)]
            merged = [m for m in merged if not share_dim(m[0], ids)]
            for other in met:
                ids = ctx.unify(other[0], ids, "meets coordinates that are always kept")
                parts = other[1] + parts
            merged.append((ids, parts))
    result = []
    for ids, parts in merged:
        members = {i for i, _ in parts}
        others = [operand for i, operand in enumerate(operands) if i not in members]
        nonzero, infinite = _facts(ids, parts, len(operands), is_zero)
        leaves = [(i, layer) for i, layer in parts if operands[i].moved_leaf]
        if infinite is not None and leaves:  # a divisor that is only cut, not set to zero?
            apart = [(i, layer.with_nonzero(True) if operands[i].moved_leaf else layer) for i, layer in parts]
            nonzero, infinite = _facts(ids, apart, len(operands), is_zero)
            mark = ctx.mark_divisor
        else:
            mark = ctx.mark_produced
        for _, leaf in leaves:
            mark(leaf.ids)
        if infinite is not None:
            ctx.pin_ids(
                ids.expand(infinite.shape)[infinite],
                "the result is not a finite number where its channel is removed (for example zero divided by zero); "
                "add a small constant to the divisor",
            )
        layer = Layer(ids, nonzero)
        fixed = [d for d in layer.dims if any(_has_extent(other, d, ndim) for other in others)]
        rest = beside(ctx, layer, fixed, "meets a tensor whose coordinates are always kept")
        if rest is not None:
            result.append(leanest(ctx, rest, [part for _, part in parts]))
    return result


def leanest(ctx: LineageContext, layer: Layer, parts: Sequence[Layer]) -> Layer:
    """The layer along the dimensions that all its parts vary along, if there are any.

    A part that lacks a dimension (one table for all heads) couples what differs only along that one; said at once, what
    comes next need not choose between heads and their dimensions.
    """
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
    return ctx.tie(layer, fixed)


def share_dim(a: Tensor, b: Tensor) -> bool:
    """Whether two id tensors vary along a common dimension."""
    return any(x > 1 and y > 1 for x, y in zip(a.shape, b.shape, strict=True))


def _has_extent(operand: TensorValue, dim: int, ndim: int) -> bool:
    offset = ndim - operand.ndim
    return dim >= offset and operand.shape[dim - offset] > 1


def _facts(
    ids: Tensor, parts: Sequence[tuple[int, Layer]], count: int, is_zero: Callable[[tuple[bool, ...]], bool | None]
) -> tuple[Tensor, Tensor | None]:
    """(not zero, not finite) per id: ``is_zero`` for every combination of operands' zero facts that occurs."""
    if all(layer.clean for _, layer in parts):
        members = {i for i, _ in parts}
        verdict = is_zero(tuple(i in members for i in range(count)))
        return everywhere(ids, value=not verdict), everywhere(ids, value=True) if verdict is None else None
    zeros = torch.zeros(ids.shape, dtype=torch.long)  # bit i: operand i is zero
    for i, layer in parts:
        zeros |= (~layer.nonzero).long() << i
    patterns, inverse = torch.unique(zeros, return_inverse=True)
    verdicts = [is_zero(tuple(bool(code >> i & 1) for i in range(count))) for code in patterns.tolist()]
    nonzero = torch.tensor([not v for v in verdicts])[inverse]
    if None not in verdicts:
        return nonzero, None
    return nonzero, torch.tensor([v is None for v in verdicts])[inverse]
