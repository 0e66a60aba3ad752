"""cat, stack, split, chunk, unbind and their relatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from atofx.ir.values import ANYTHING, NONE, Layer, TensorValue, agreed
from atofx.ops.arguments import argument, source_node, target_name
from atofx.ops.context import LineageContext
from atofx.ops.layers import run_on_ids
from atofx.ops.meeting import leanest
from atofx.ops.positions import countable, fix_where_computed
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def cat(ctx: LineageContext, tensors: Sequence[TensorValue], dim: int = 0, **kwargs: Any) -> TensorValue:
    """Concatenation: ids follow along ``dim``; along other dimensions the operands' ids meet."""
    dim = kwargs.get("axis", dim)
    tensors = [t for t in tensors if t.shape != (0,)]
    ndim = tensors[0].ndim
    dim %= ndim
    layers = _joined(ctx, tensors, dim)
    if isinstance(argument(ctx.node, 0, "tensors"), fx.Node):
        _fix_where_more_are_joined(ctx, layers, dim)
    return ctx.value(ctx.out, layers, moved_leaf=all(t.moved_leaf for t in tensors))


def _fix_where_more_are_joined(ctx: LineageContext, layers: Sequence[Layer], dim: int) -> None:
    """Note that a larger image or batch is cut into more pieces (``cat(x.split(1), 1)``), which lie along ``dim``."""
    for layer in [layer for layer in layers if layer.shape[dim] > 1]:
        for longer, batch in ((ctx.longer(ctx.node), False), (ctx.more(ctx.node), True)):
            if longer is None or dim in longer:
                ctx.fix_sizes(layer, batch=batch)


def stack(ctx: LineageContext, tensors: Sequence[TensorValue], dim: int = 0) -> TensorValue:
    """Stack: every operand gets a new dimension of size 1, then they are concatenated."""
    dim %= tensors[0].ndim + 1
    widened = [
        TensorValue(
            t.meta.unsqueeze(dim),
            tuple(y.moved(lambda ids: ids.unsqueeze(dim)) for y in t.layers),
            t.moved_leaf,
        )
        for t in tensors
    ]
    return ctx.value(ctx.out, _joined(ctx, widened, dim), moved_leaf=all(t.moved_leaf for t in tensors))


def _joined(ctx: LineageContext, tensors: Sequence[TensorValue], dim: int) -> list[Layer]:
    """Layers of the concatenation along ``dim``.

    Layers are matched across operands by a dimension they share; one that varies only along other dimensions must meet
    a partner in every operand (else it is pinned).
    """
    slots: list[list[Layer | None]] = []
    for i, tensor in enumerate(tensors):
        for layer in tensor.layers:
            slot = next((s for s in slots if s[i] is None and any(_share(other, layer) for other in s[:i])), None)
            if slot is None:
                slot = [None] * len(tensors)
                slots.append(slot)
            slot[i] = layer
    return [_concatenate(ctx, slot, tensors, dim) for slot in slots]


def _share(other: Layer | None, layer: Layer) -> bool:
    return other is not None and bool(set(other.dims) & set(layer.dims))


def _concatenate(ctx: LineageContext, slot: Sequence[Layer | None], tensors: Sequence[TensorValue], dim: int) -> Layer:
    ndim = tensors[0].ndim
    present = [layer for layer in slot if layer is not None]
    others = sorted({d for layer in present for d in layer.dims if d != dim})
    shape = [1] * ndim
    for d in others:
        shape[d] = tensors[0].shape[d]
    reference: Tensor | None = None
    for layer in present:
        if not others or layer.shape[dim] > 1:
            continue
        why = "is concatenated with coordinates that are always kept"
        reference = layer.ids if reference is None else ctx.unify(reference, layer.ids, why)
    if others and all(layer.shape[dim] == 1 for layer in present):
        if len(present) < len(slot):
            for layer in present:
                ctx.pin(layer, "is concatenated with a tensor whose coordinates along that dimension are always kept")
        assert reference is not None
        rest = present[0].rest if len(present) == len(slot) else torch.full_like(present[0].rest, ANYTHING)
        for layer in present[1:]:
            rest = agreed(rest, layer.rest)
        return leanest(ctx, Layer(reference, rest.expand(reference.shape)), present)
    pieces, rests = [], []
    for part, tensor in zip(slot, tensors, strict=True):
        piece_shape = list(shape)
        piece_shape[dim] = tensor.shape[dim]
        if part is None:
            pieces.append(torch.full(piece_shape, NONE))
            rests.append(torch.full(piece_shape, ANYTHING, dtype=torch.float64))
        else:
            pieces.append(part.ids.expand(piece_shape))
            rests.append(part.rest.expand(piece_shape))
    return Layer(torch.cat(pieces, dim), torch.cat(rests, dim))


def split(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> tuple[TensorValue, ...]:
    """split, chunk, tensor_split, …: pieces are slices along one dimension."""
    dim = _split_dim(ctx.node, x.ndim)
    x = countable(ctx, x, [dim], "split", "split")
    fix_where_computed(ctx, x, dim, (ctx.node.args[1:], dict(ctx.node.kwargs)))
    pieces = []
    start = 0
    for meta in ctx.out:
        length = meta.shape[dim]
        begin = start
        layers = [run_on_ids(y, x.shape, lambda t, b=begin, n=length: t.narrow(dim, b, n)) for y in x.layers]  # type: ignore[misc]
        pieces.append(ctx.value(meta, layers, moved_leaf=x.moved_leaf))
        start += length
    return tuple(pieces)


def unbind(ctx: LineageContext, x: TensorValue, dim: int = 0) -> tuple[TensorValue, ...]:
    """unbind: one slice per coordinate."""
    x = countable(ctx, x, [dim % x.ndim], "split", "split")
    return tuple(
        ctx.value(
            meta,
            [run_on_ids(y, x.shape, lambda t, k=i: t.select(dim, k)) for y in x.layers],  # type: ignore[misc]
            moved_leaf=x.moved_leaf,
        )
        for i, meta in enumerate(ctx.out)
    )


def meshgrid(ctx: LineageContext, *args: Any, **kwargs: Any) -> Any:
    """meshgrid of coordinates that are always kept."""
    ctx.pin_value(args, "is spread over a grid")
    return [TensorValue(meta) for meta in ctx.out]


_FIXED_DIM = {"hsplit": 1, "vsplit": 0, "dsplit": 2}


def _split_dim(node: fx.Node, ndim: int) -> int:
    name = target_name(node)
    if name in _FIXED_DIM:
        return 0 if name == "hsplit" and ndim == 1 else _FIXED_DIM[name]
    dim = argument(node, 2, "dim", 0)
    if isinstance(dim, fx.Node):
        dim = dim.meta["val"]
    assert isinstance(dim, int)
    return dim % ndim


def resize_split(resizer: Resizer, node: fx.Node) -> Any:
    """Pieces at their kept sizes."""
    source = source_node(node)
    value = resizer.lineage.values[source]
    dim = _split_dim(node, value.ndim)
    if resizer.keep(source)[dim] is None:
        return resizer.copy(node)
    resizer.fix(source, [dim])
    sizes = [resizer.shape_of(piece)[dim] for piece in resizer.lineage.values[node]]
    return resizer.function(torch.split, resizer.new(source), sizes, dim)


_CAT = OpRecord("cat", cat)
REGISTRY.add(_CAT, functions=[torch.cat, torch.concat, torch.concatenate])
REGISTRY.add(OpRecord("stack", stack), functions=[torch.stack])
_splits = ["split", "chunk", "tensor_split", "split_with_sizes", "hsplit", "vsplit", "dsplit"]
REGISTRY.add(
    OpRecord("split", split, resize_split),
    functions=[getattr(torch, name) for name in _splits],
    methods=_splits,
)
REGISTRY.add(OpRecord("unbind", unbind), functions=[torch.unbind], methods=["unbind"])
# given a list, torch.meshgrid hands over to the function under it before a tracer sees it
_inner_meshgrid = torch._C._VariableFunctions.meshgrid  # type: ignore[attr-defined]
REGISTRY.add(OpRecord("meshgrid", meshgrid), functions=[torch.meshgrid, _inner_meshgrid])
