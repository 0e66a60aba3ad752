"""Slices, integer and constant tensor indices: getitem, narrow, select, index_select, setitem."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from atofx.ir.values import Layer, TensorValue
from atofx.ops.arguments import argument, source_node, target_name
from atofx.ops.constants import constant_value
from atofx.ops.context import LineageContext, tensors_in
from atofx.ops.layers import align, run_on_ids
from atofx.ops.meeting import meet, zero_if
from atofx.ops.movement import movement
from atofx.ops.positions import countable, fix_where_computed, free_sizes
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer, places


def getitem(ctx: LineageContext, x: Any, index: Any) -> Any:
    """``x[index]`` on tensors and on Python containers."""
    if not isinstance(x, TensorValue):
        return x[index]
    real = _real_index(ctx, x, index, ctx.node.args[1])
    usable = countable(ctx, _usable(ctx, x, index), _places(index, x.ndim), "sliced", "slice")
    _fix_computed_places(ctx, usable, index)
    layers = [_picked(layer, x.shape, real) for layer in usable.layers]
    return ctx.value(ctx.out, layers, moved_leaf=x.moved_leaf)


def _fix_computed_places(ctx: LineageContext, x: TensorValue, index: Any) -> None:
    """Note which channels an index takes by places that are computed from sizes."""
    entries, dims = expand_index(index, x.ndim)
    for dim, given in zip(dims, _expand_arguments(ctx.node.args[1], len(entries)), strict=True):
        if dim is not None:
            fix_where_computed(ctx, x, dim, given)


def _picked(layer: Layer, shape: tuple[int, ...], index: Any) -> Layer:
    """``layer[index]``; a slice of dimensions the layer does not vary along leaves it alone, even an empty one."""
    entries, dims = expand_index(index, len(shape))
    if not all(entry is None or isinstance(entry, (int, slice)) for entry in entries):
        return run_on_ids(layer, shape, lambda t: t[index])
    narrow = tuple(
        entry if d is None or layer.shape[d] > 1 else 0 if isinstance(entry, int) else slice(None)
        for entry, d in zip(entries, dims, strict=True)
    )
    return run_on_ids(layer, layer.shape, lambda t: t[narrow])


def setitem(ctx: LineageContext, x: TensorValue, index: Any, value: Any) -> TensorValue:
    """``x[index] = value``: the written region takes part like an operand. Returns what ``x`` is from now on."""
    real = _real_index(ctx, x, index, ctx.node.args[1])
    x = countable(ctx, x, _places(index, x.ndim), "written to", "place")
    _fix_computed_places(ctx, x, index)
    for mask in tensors_in(index):
        _meet_mask(ctx, x, mask)
    region = torch.empty(x.shape, device="meta")[real]
    layers = [run_on_ids(layer, x.shape, lambda t: t[real]) for layer in x.layers]
    if isinstance(value, TensorValue):
        shape = torch.broadcast_shapes(region.shape, value.shape)
        for layer in value.layers:
            ids = align(layer.ids, len(shape))
            partners = [part for part in layers if set(_varying(part.ids)) & set(_varying(ids))]
            for part in partners:
                ctx.unify(part.ids, ids, "is written over coordinates that are always kept")
            if not partners:
                ctx.pin(layer, "is written into a tensor whose coordinates are always kept")
        for part in layers:
            aligned = [d - len(shape) for d in _varying(part.ids)]
            extent = any(value.ndim + d >= 0 and value.shape[d] > 1 for d in aligned)
            met = any(set(_varying(part.ids)) & set(_varying(align(v.ids, len(shape)))) for v in value.layers)
            if extent and not met:
                ctx.pin(part, "is overwritten by values whose coordinates are always kept")
        zero = (bool(value.layers) and all(v.clean for v in value.layers)) or _is_zero(ctx, ctx.node.args[2])
    else:
        zero = isinstance(ctx.node.args[2], (int, float)) and value == 0
    if not zero:
        for layer in x.layers:
            ctx.require_zero(layer, layer.ids)
    return TensorValue(x.meta, tuple(layer.only_zeros() for layer in x.layers), x.moved_leaf)


def _is_zero(ctx: LineageContext, written: Any) -> bool:
    """Whether a tensor is a constant zero: for every image and batch, if its values are computed from their sizes."""
    constant = constant_value(written)
    if constant is None or bool(constant.any()):
        return False
    made = written
    while made.op != "get_attr" and target_name(made) in _KEEPING_ZEROS:
        made = source_node(made)
    return target_name(made) in ("zeros", "new_zeros", "zeros_like") or not free_sizes(ctx, made)


#: Whatever sizes they are given, zeros stay zeros.
_KEEPING_ZEROS = frozenset(
    {"expand", "expand_as", "broadcast_to", "view", "view_as", "reshape", "repeat", "to", "type", "double", "float"}
)


def _meet_mask(ctx: LineageContext, x: TensorValue, index: TensorValue) -> None:
    """A mask of the tensor's own shape is coupled to it; any other index with channels keeps them, and those of x."""
    if index.meta.dtype == torch.bool and index.shape == x.shape:
        meet(ctx, [x, index], x.shape, zero_if(lambda zeros: False))
    elif index.layers and not index.moved_leaf:
        ctx.pin_value((x, index), "is written where an index that has channels says so")


def _varying(ids: Tensor) -> list[int]:
    return [d for d, size in enumerate(ids.shape) if size > 1]


def _real_index(ctx: LineageContext, x: TensorValue, index: Any, argument: Any) -> Any:
    """The index with tensors replaced by their values, or by zeros of their shape where they depend on data."""
    if isinstance(index, tuple):
        return tuple(_real_index(ctx, x, i, a) for i, a in zip(index, argument, strict=True))
    if isinstance(index, list):
        return [_real_index(ctx, x, i, a) for i, a in zip(index, argument, strict=True)]
    if isinstance(index, TensorValue):
        constant = constant_value(argument)
        if constant is not None:
            return constant
        return torch.zeros(index.shape, dtype=index.meta.dtype)
    return index


def _places(index: Any, ndim: int) -> list[int]:
    """The dimensions of which an index takes a part."""
    entries, dims = expand_index(index, ndim)
    partial = [not isinstance(entry, slice) or entry != slice(None) for entry in entries]
    return [d for d, part in zip(dims, partial, strict=True) if d is not None and part]


def _usable(ctx: LineageContext, x: TensorValue, index: Any) -> TensorValue:
    """The value with the layers an index moves; those that vary along a dimension indexed by data are pinned."""
    entries, dims = expand_index(index, x.ndim)
    by_tensor = [isinstance(entry, (TensorValue, list)) for entry in entries]
    tensor_dims = [d for d, tensor in zip(dims, by_tensor, strict=True) if tensor and d is not None]
    constant = all(constant_value(a) is not None for a in _index_nodes(ctx.node.args[1]))
    usable = []
    for layer in x.layers:
        hit = [d for d in layer.dims if d in tensor_dims]
        if hit and not constant:
            ctx.pin(layer, "is indexed by a tensor that depends on the data")
        elif hit and any(getattr(e, "ndim", 1) > 1 for e, d in zip(entries, dims, strict=True) if d in hit):
            ctx.pin(layer, "is indexed by a tensor of several dimensions")
        elif hit and len(tensor_dims) > 1:
            ctx.pin(layer, "is indexed by several tensors")
        else:
            usable.append(layer)
    for tensor in tensors_in(index):
        for layer in tensor.layers:
            if not tensor.moved_leaf:
                ctx.pin(layer, "is used as an index")
    return TensorValue(x.meta, tuple(usable), x.moved_leaf)


def narrow(ctx: LineageContext, x: TensorValue, dim: int, *args: Any, **kwargs: Any) -> TensorValue:
    """Narrow and select: a slice along one dimension."""
    fix_where_computed(ctx, x, dim % x.ndim, (ctx.node.args[1:], dict(ctx.node.kwargs)))
    return movement(ctx, countable(ctx, x, [dim % x.ndim], "sliced", "slice"), dim, *args, **kwargs)


def _index_nodes(argument: Any) -> list[fx.Node]:
    nodes: list[fx.Node] = []
    fx.node.map_arg(argument, nodes.append)
    return [n for n in nodes if isinstance(n.meta.get("val"), Tensor)]


def expand_index(index: Any, ndim: int) -> tuple[list[Any], list[int | None]]:
    """An index as a full list of entries, and for each the source dimension it indexes (None for a new axis)."""
    entries = list(index) if isinstance(index, tuple) else [index]
    used = sum(0 if e is None or e is Ellipsis else _width(e) for e in entries)
    filler = [slice(None)] * (ndim - used)
    place = next((i for i, e in enumerate(entries) if e is Ellipsis), None)
    entries = entries + filler if place is None else entries[:place] + filler + entries[place + 1 :]
    dims: list[int | None] = []
    dim = 0
    for entry in entries:
        if entry is None:
            dims.append(None)
        else:
            dims.append(dim)
            dim += _width(entry)
    return entries, dims


def _width(entry: Any) -> int:
    if isinstance(entry, (TensorValue, Tensor)):
        dtype = entry.meta.dtype if isinstance(entry, TensorValue) else entry.dtype
        return entry.ndim if dtype == torch.bool else 1
    return 1


# ---------------------------------------------------------------------- resize


def resize_getitem(resizer: Resizer, node: fx.Node) -> Any:
    """``x[index]``: indices along cut dimensions are renumbered."""
    source, index = source_node(node), node.args[1]
    if isinstance(resizer.new(source), tuple):
        return resizer.new(source)[resizer.original(index)]
    if not isinstance(resizer.lineage.values[source], TensorValue):
        return resizer.call(node, resizer.number(node.args))
    if not resizer.is_resized(source) and not (
        isinstance(resizer.lineage.values[node], TensorValue) and resizer.is_resized(node)
    ):
        return resizer.copy(node)
    entries, selections = renumber(resizer, source, index)
    result = resizer.new(source)
    for dim, positions in selections:
        result = resizer.function(torch.index_select, result, dim, resizer.index_buffer(node, positions))
    if not any(isinstance(e, fx.Node) for e in entries) and all(e == slice(None) for e in entries):
        return result
    return resizer.function(operator.getitem, result, tuple(entries))


#: Stands for the position of a channel that is not kept.
_DROPPED = -(1 << 62)


def resize_setitem(resizer: Resizer, node: fx.Node) -> Any:
    """``x[index] = value``."""
    source = source_node(node)
    _, index, value = node.args
    if not resizer.is_resized(source):
        return resizer.copy(node)
    entries, selections = renumber(resizer, source, index)
    if any(isinstance(e, int) and e == _DROPPED for e in entries):
        return resizer.new(source)  # the one channel it writes to is gone
    for dim, positions in selections:
        _, dims = expand_index(index, len(resizer.shape(source)))
        entries[dims.index(dim)] = resizer.index_buffer(node, positions)
    return resizer.call(node, (resizer.new(source), tuple(entries), resizer.number(value)))


def renumber(resizer: Resizer, source: fx.Node, index: Any) -> tuple[list[Any], list[tuple[int, Tensor]]]:
    """(index entries at kept positions, index selections to apply first: (dimension, positions)).

    For every cut dimension, the kept result coordinates are looked up among the kept source coordinates.
    """
    value = resizer.lineage.values[source]
    concrete = resizer.original(index)
    entries, dims = expand_index(concrete, value.ndim)
    arguments = _expand_arguments(index, len(entries))
    keep_in = resizer.keep(source)
    resizer.fix(source, _places(concrete, value.ndim))
    result: list[Any] = []
    selections: list[tuple[int, Tensor]] = []
    for entry, given, dim in zip(entries, arguments, dims, strict=True):
        kept = None if dim is None else keep_in[dim]
        if dim is None or kept is None:
            result.append(resizer.number(given))
            continue
        picked = torch.arange(value.shape[dim])[_constant_entry(entry, given)]
        target = places(kept, value.shape[dim], picked.reshape(-1))
        if isinstance(entry, int):
            result.append(int(target[0]) if target.numel() else _DROPPED)
            continue
        if isinstance(entry, slice) and (bounds := _as_slice(target, kept.numel())) is not None:
            result.append(bounds)
        else:
            result.append(slice(None))
            selections.append((dim, target))
    return result, selections


def _constant_entry(entry: Any, given: Any) -> Any:
    if isinstance(entry, TensorValue):
        constant = constant_value(given)
        assert constant is not None
        return constant
    return entry


def _expand_arguments(index: Any, length: int) -> list[Any]:
    arguments = list(index) if isinstance(index, tuple) else [index]
    filler = [slice(None)] * (length - sum(a is not Ellipsis for a in arguments))
    place = next((i for i, a in enumerate(arguments) if a is Ellipsis), None)
    if place is None:
        return arguments + filler
    return arguments[:place] + filler + arguments[place + 1 :]


def _as_slice(positions: Tensor, size: int) -> slice | None:
    """A slice that picks exactly these positions, if there is one."""
    if positions.numel() == 0:
        return slice(0, 0)
    if positions.numel() == 1:
        return slice(int(positions[0]), int(positions[0]) + 1)
    steps = positions.diff()
    step = int(steps[0])
    if step < 1 or not bool((steps == step).all()):
        return None
    if step == 1 and int(positions[0]) == 0 and int(positions[-1]) == size - 1:
        return slice(None)
    return slice(int(positions[0]), int(positions[-1]) + 1, step if step != 1 else None)


def _resize_along(pick: Callable[[Resizer, fx.Node], Tensor | int]) -> Callable[[Resizer, fx.Node], Any]:
    def resize(resizer: Resizer, node: fx.Node) -> Any:
        source = source_node(node)
        if not resizer.is_resized(source):
            return resizer.copy(node)
        value = resizer.lineage.values[source]
        dim = resizer.original(argument(node, 1, "dim")) % value.ndim
        kept = resizer.keep(source)[dim]
        if kept is None:
            return resizer.copy(node)
        resizer.fix(source, [dim])
        picked = pick(resizer, node)
        target = places(kept, value.shape[dim], torch.as_tensor(picked).reshape(-1))
        if isinstance(picked, int):
            return resizer.function(torch.select, resizer.new(source), dim, int(target[0]) if target.numel() else -1)
        bounds = _as_slice(target, kept.numel())
        if bounds is not None and bounds.step is None and bounds.start is not None:
            return resizer.function(torch.narrow, resizer.new(source), dim, bounds.start, bounds.stop - bounds.start)
        return resizer.function(torch.index_select, resizer.new(source), dim, resizer.index_buffer(node, target))

    return resize


def _pick_narrow(resizer: Resizer, node: fx.Node) -> Tensor:
    start, length = resizer.original((argument(node, 2, "start"), argument(node, 3, "length")))
    size = resizer.lineage.values[source_node(node)].shape[resizer.original(argument(node, 1, "dim"))]
    return torch.arange(size).narrow(0, start, length)


def _pick_select(resizer: Resizer, node: fx.Node) -> int:
    return int(resizer.original(argument(node, 2, "index")))


def _pick_index(resizer: Resizer, node: fx.Node) -> Tensor:
    constant = constant_value(argument(node, 2, "index"))
    assert constant is not None
    return constant.reshape(-1)


def index_select(ctx: LineageContext, x: TensorValue, dim: int, index: TensorValue) -> TensorValue:
    """index_select with a constant index moves ids; an index that depends on data pins the dimension."""
    constant = constant_value(argument(ctx.node, 2, "index"))
    axis = dim % x.ndim
    layers = []
    for layer in countable(ctx, x, [axis], "sliced", "slice").layers:
        if axis in layer.dims and constant is None:
            ctx.pin(layer, "is indexed by a tensor that depends on the data")
            continue
        fix_where_computed(ctx, TensorValue(x.meta, (layer,)), axis, argument(ctx.node, 2, "index"))
        real = constant if constant is not None else torch.zeros(index.shape, dtype=torch.long)
        layers.append(run_on_ids(layer, x.shape, lambda t, r=real: t.index_select(axis, r)))  # type: ignore[misc]
    return ctx.value(ctx.out, layers, moved_leaf=x.moved_leaf)


REGISTRY.add(OpRecord("getitem", getitem, resize_getitem), functions=[operator.getitem], methods=["__getitem__"])
REGISTRY.add(OpRecord("setitem", setitem, resize_setitem), functions=[operator.setitem])
REGISTRY.add(OpRecord("narrow", narrow, _resize_along(_pick_narrow)), functions=[torch.narrow], methods=["narrow"])
REGISTRY.add(OpRecord("select", narrow, _resize_along(_pick_select)), functions=[torch.select], methods=["select"])
REGISTRY.add(
    OpRecord("index_select", index_select, _resize_along(_pick_index)),
    functions=[torch.index_select],
    methods=["index_select"],
)
