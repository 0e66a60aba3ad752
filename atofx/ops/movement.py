"""Operations that only move elements: the very op runs on the id tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from atofx.ir.values import ANYTHING, Layer, TensorValue
from atofx.ops.arguments import argument, source_node, target_name
from atofx.ops.context import LineageContext
from atofx.ops.evaluate import meta_call
from atofx.ops.layers import reshape_layer, run_on_ids
from atofx.ops.positions import countable, fix_where_computed
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.reshaping import fix_where_sizes_count, fix_where_squeezed
from atofx.ops.resize import Resizer, places


def rerun(ctx: LineageContext, value: TensorValue, args: Any, kwargs: Any) -> list[Layer]:
    """Run the node's own op on the ids of ``value``, every other argument as it is."""

    def op(code: Tensor) -> Tensor:
        def swap(a: Any) -> Any:
            return code if a is value else a

        new_args = tuple(swap(a) for a in args)
        new_kwargs = {k: swap(v) for k, v in kwargs.items()}
        result = meta_call(ctx.node, new_args, new_kwargs, ctx.module)
        assert isinstance(result, Tensor)
        return result

    return [run_on_ids(layer, value.shape, op) for layer in value.layers]


def movement(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """permute, transpose, flip, roll, repeat, squeeze, …: one tensor in, one out."""
    return ctx.value(ctx.out, rerun(ctx, x, (x, *args), kwargs), moved_leaf=x.moved_leaf)


def squeeze(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """squeeze: dimensions of length 1 go."""
    fix_where_squeezed(ctx, x, _named(args, kwargs))
    return movement(ctx, x, *args, **kwargs)


def _named(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The dimension or dimensions that a squeeze names behind the tensor; None for all."""
    return kwargs.get("dim", args[0] if len(args) == 1 else tuple(args) or None)


def reshape(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """view, reshape, flatten, unflatten, contiguous reinterpretation of the same elements in order."""
    if (args and isinstance(args[0], torch.dtype)) or "dtype" in kwargs:
        ctx.pin_value(x, "its memory is reinterpreted as another dtype")
        return TensorValue(ctx.out)
    fix_where_sizes_count(ctx, x)
    layers = [reshape_layer(layer, x.shape, tuple(ctx.out.shape)) for layer in x.layers]
    return ctx.value(ctx.out, layers, moved_leaf=x.moved_leaf)


def window(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """Tensor.unfold and diagonal: dimensions they cut windows or lines out of stay whole, others pass."""
    name = target_name(ctx.node)
    if name == "unfold":
        dims = {kwargs.get("dimension", args[0] if args else 0) % x.ndim}
    else:
        given = dict(zip(("offset", "dim1", "dim2"), args, strict=False)) | kwargs
        dims = {given.get("dim1", 0) % x.ndim, given.get("dim2", 1) % x.ndim}
    for layer in x.layers:
        if set(layer.dims) & dims:
            ctx.pin(layer, f"{name} takes windows along it")
    passing = TensorValue(x.meta, tuple(y for y in x.layers if not set(y.dims) & dims), x.moved_leaf)
    return ctx.value(ctx.out, rerun(ctx, passing, (passing, *args), kwargs), moved_leaf=x.moved_leaf)


def expand(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """expand: new extents repeat one value and join whatever they meet."""
    layers = rerun(ctx, x, (x, *args), kwargs)
    out = ctx.out
    for i in range(1, out.dim() + 1):
        grown = x.ndim < i or (x.shape[-i] == 1 and out.shape[-i] > 1)
        if grown and 1 < out.shape[-i] <= 65536:
            layers.append(ctx.fresh(out.shape[-i], out.dim() - i, out.dim(), ANYTHING))
    return ctx.value(out, layers, moved_leaf=x.moved_leaf)


def expand_as(ctx: LineageContext, x: TensorValue, other: TensorValue) -> TensorValue:
    """expand_as: the new extents take the other tensor's ids."""
    layers = [run_on_ids(layer, x.shape, lambda t: t.expand(other.shape)) for layer in x.layers]
    for layer in other.layers:
        dim = layer.dims[0]
        offset = dim - other.ndim
        if len(layer.dims) == 1 and (x.ndim < -offset or x.shape[offset] == 1):
            layers.append(layer.with_rest(ANYTHING))
    return ctx.value(ctx.out, layers)


def view_as(ctx: LineageContext, x: TensorValue, other: TensorValue) -> TensorValue:
    """view_as / reshape_as."""
    return reshape(ctx, x)


# ---------------------------------------------------------------------- resize


def emit_sizes(resizer: Resizer, sizes: Any, wanted: tuple[int, ...]) -> list[Any]:
    """Size arguments (flat, nested in one tuple, or one node holding a torch.Size) at their kept values."""
    if len(sizes) == 1 and isinstance(sizes[0], fx.Node) and not isinstance(resizer.compact_value(sizes[0]), int):
        node = sizes[0]
        values = resizer.compact_value(node)
        return [
            resizer.fitted(resizer.function(operator.getitem, resizer.new(node), i), value, want)
            for i, (value, want) in enumerate(zip(values, wanted, strict=True))
        ]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    return [resizer.sizes(size, want) for size, want in zip(sizes, wanted, strict=True)]


def resize_view(resizer: Resizer, node: fx.Node) -> fx.Node:
    """view(x, *shape), reshape(x, shape), expand(x, *shape)."""
    sizes = node.args[1:] or (node.kwargs.get("shape") or node.kwargs.get("size"),)
    if not node.args[1:] and sizes == (None,):
        return resizer.copy(node)
    wanted = resizer.shape(node)
    new_sizes = emit_sizes(resizer, sizes, wanted)
    x = resizer.new(source_node(node))
    flat = node.op == "call_method" and bool(new_sizes)
    return resizer.call(node, (x, *new_sizes) if flat else (x, tuple(new_sizes)))


def _resize_like(method: str) -> Callable[[Resizer, fx.Node], fx.Node]:
    """``x.view_as(other)``: with the result's own kept sizes, where they are not those of ``other``."""

    def resize(resizer: Resizer, node: fx.Node) -> fx.Node:
        other = argument(node, 1, "other")
        wanted, there = resizer.shape(node), resizer.shape(other)
        if wanted == there:
            return resizer.copy(node)
        shape = resizer.function(getattr, resizer.new(other), "shape")
        sizes = [
            resizer.function(operator.getitem, shape, d) if size == want else want
            for d, (size, want) in enumerate(zip(there, wanted, strict=True))
        ]
        return resizer.graph.call_method(method, (resizer.new(source_node(node)), *sizes))

    return resize


def resize_unflatten(resizer: Resizer, node: fx.Node) -> fx.Node:
    """unflatten(x, dim, sizes)."""
    source = source_node(node)
    dim, sizes = argument(node, 1, "dim"), argument(node, 2, "sizes")
    ndim = len(resizer.shape(source))
    start = resizer.original(dim) % ndim
    count = len(resizer.original(sizes))
    wanted = resizer.shape(node)[start : start + count]
    new = emit_sizes(resizer, (sizes,), wanted)
    return resizer.call(node, (resizer.new(source), start, tuple(new)))


def configure_unflatten(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.Unflatten."""
    assert isinstance(module, nn.Unflatten)
    ndim = len(resizer.shape(source_node(node)))
    start = int(module.dim) % ndim
    sizes = tuple(module.unflattened_size)
    wanted = resizer.shape(node)[start : start + len(sizes)]
    module.unflattened_size = tuple(s if s == -1 else w for s, w in zip(sizes, wanted, strict=True))


def resize_squeeze(resizer: Resizer, node: fx.Node) -> fx.Node:
    """Only dimensions that had length 1 are squeezed: a channel dimension cut to 1 stays."""
    source = source_node(node)
    value = resizer.lineage.values[source]
    single = [d for d, kept in enumerate(resizer.keep(source)) if kept is not None and kept.numel() == 1]
    given = resizer.original(_named(node.args[1:], node.kwargs))
    dims = range(value.ndim) if given is None else [d % value.ndim for d in _as_tuple(given)]
    if not set(single) & set(dims):
        return resizer.copy(node)
    left = tuple(d for d in dims if d not in single and (given is not None or value.shape[d] == 1))
    return resizer.function(torch.squeeze, resizer.new(source), left)


def roll(ctx: LineageContext, x: TensorValue, shifts: Any, dims: Any = None) -> TensorValue:
    """Roll along dimensions; a roll of the flattened tensor crosses from one sample into the next."""
    if dims in (None, (), []) and x.ndim > 1:
        ctx.pin_value(x, "is rolled over all dimensions at once")
        return TensorValue(ctx.out)
    rolled = [d % x.ndim for d in _as_tuple(dims or 0)]
    given = argument(ctx.node, 1, "shifts")
    for i, dim in enumerate(rolled):
        fix_where_computed(ctx, x, dim, given[i] if isinstance(given, (tuple, list)) else given)
    return movement(ctx, countable(ctx, x, rolled, "rolled", "roll"), shifts, dims)


def resize_roll(resizer: Resizer, node: fx.Node) -> fx.Node:
    """Along cut dimensions an index selection makes the move, along the others roll does."""
    source = source_node(node)
    keep = resizer.keep(source)
    shifts, dims = argument(node, 1, "shifts"), argument(node, 2, "dims")
    shape = resizer.lineage.values[source].shape
    rolled = [d % len(shape) for d in _as_tuple(dims or 0)]
    if all(keep[d] is None for d in rolled):
        return resizer.copy(node)
    if isinstance(shifts, fx.Node):  # one, or a tuple: sizes, which are checked as they decide about channels
        shifts = resizer.original(shifts)
    pairs = list(zip(_as_tuple(shifts), rolled, strict=True))
    resizer.fix(source, [d for _, d in pairs])
    result: fx.Node = resizer.new(source)
    rest = [(resizer.number(s), d) for s, d in pairs if keep[d] is None]
    if rest:
        result = resizer.function(torch.roll, result, tuple(s for s, _ in rest), tuple(d for _, d in rest))
    for dim in sorted({d for _, d in pairs if keep[d] is not None}):
        shift = sum(int(resizer.original(s)) for s, d in pairs if d == dim)
        result = _moved(resizer, node, result, dim, torch.arange(shape[dim]).roll(shift))
    return result


def resize_shuffle(resizer: Resizer, node: fx.Node) -> fx.Node:
    """Channel shuffle of cut channels is an index selection."""
    source = source_node(node)
    value = resizer.lineage.values[source]
    if resizer.keep(source)[1] is None:
        return resizer.copy(node)
    resizer.fix(source, [1])
    marks = torch.arange(value.shape[1]).reshape(1, -1, *[1] * (value.ndim - 2)).float()
    module = resizer.source.get_submodule(str(node.target)) if node.op == "call_module" else None
    rest, kwargs = resizer.original(node.args[1:]), resizer.original(dict(node.kwargs))
    return _moved(
        resizer, node, resizer.new(source), 1, meta_call(node, (marks, *rest), kwargs, module).reshape(-1).long()
    )


def _moved(resizer: Resizer, node: fx.Node, value: fx.Node, dim: int, mapping: Tensor) -> fx.Node:
    """Select, among the kept coordinates along ``dim``, where each kept result coordinate comes from."""
    kept_in, kept_out = resizer.keep(source_node(node))[dim], resizer.keep(node)[dim]
    assert kept_in is not None
    assert kept_out is not None
    positions = places(kept_in, mapping.numel(), mapping[kept_out.unique_consecutive()])
    if torch.equal(positions, torch.arange(positions.numel())):
        return value
    return resizer.function(torch.index_select, value, dim, resizer.index_buffer(node, positions))


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


# ---------------------------------------------------------------------- records

_PLAIN = OpRecord("movement", movement)
REGISTRY.add(
    _PLAIN,
    functions=[
        torch.permute, torch.transpose, torch.swapaxes, torch.swapdims, torch.movedim, torch.moveaxis, torch.t,
        torch.flip, torch.fliplr, torch.flipud, torch.rot90, torch.unsqueeze, torch.repeat_interleave, torch.tile,
        torch.adjoint, torch.atleast_1d, torch.atleast_2d, torch.atleast_3d,
    ],
    methods=[
        "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "flip", "fliplr", "flipud", "rot90",
        "unsqueeze", "repeat_interleave", "tile", "repeat",
    ],
)  # fmt: skip
REGISTRY.add(OpRecord("window", window), functions=[torch.diagonal], methods=["unfold", "diagonal"])
REGISTRY.add(OpRecord("squeeze", squeeze, resize_squeeze), functions=[torch.squeeze], methods=["squeeze"])
REGISTRY.add(OpRecord("roll", roll, resize_roll), functions=[torch.roll], methods=["roll"])
_SHUFFLE = OpRecord("channel shuffle", movement, resize_shuffle)
REGISTRY.add(_SHUFFLE, functions=[torch.channel_shuffle, F.channel_shuffle], modules=[nn.ChannelShuffle])
REGISTRY.add(
    OpRecord("reshape", reshape, resize_view),
    functions=[torch.reshape],
    methods=["view", "reshape"],
)
REGISTRY.add(
    OpRecord("flatten", reshape),
    functions=[torch.flatten, torch.ravel],
    methods=["flatten", "ravel"],
    modules=[nn.Flatten],
)
REGISTRY.add(
    OpRecord("unflatten", reshape, resize_unflatten),
    functions=[torch.unflatten],
    methods=["unflatten"],
    modules=[nn.Unflatten],
    configure=configure_unflatten,
)
REGISTRY.add(
    OpRecord("expand", expand, resize_view), functions=[torch.broadcast_to], methods=["expand", "broadcast_to"]
)
REGISTRY.add(OpRecord("expand_as", expand_as, _resize_like("expand")), methods=["expand_as"])
REGISTRY.add(OpRecord("view_as", view_as, _resize_like("view")), methods=["view_as"])
REGISTRY.add(OpRecord("reshape_as", view_as, _resize_like("reshape")), methods=["reshape_as"])
