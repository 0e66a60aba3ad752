"""Operations that only move elements: the very op runs on the id tensor."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from atofx.ir.values import Layer, TensorValue
from atofx.ops.arguments import argument, source_node, target_name
from atofx.ops.context import LineageContext
from atofx.ops.evaluate import meta_call
from atofx.ops.layers import reshape_layer, run_on_ids
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Keep, Resizer


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


def reshape(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """view, reshape, flatten, unflatten, contiguous reinterpretation of the same elements in order."""
    if (args and isinstance(args[0], torch.dtype)) or "dtype" in kwargs:
        ctx.pin_value(x, "its memory is reinterpreted as another dtype")
        return TensorValue(ctx.out)
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
            layers.append(ctx.fresh(out.shape[-i], out.dim() - i, out.dim(), nonzero=True))
    return ctx.value(out, layers, moved_leaf=x.moved_leaf)


def expand_as(ctx: LineageContext, x: TensorValue, other: TensorValue) -> TensorValue:
    """expand_as: the new extents take the other tensor's ids."""
    layers = [run_on_ids(layer, x.shape, lambda t: t.expand(other.shape)) for layer in x.layers]
    for layer in other.layers:
        dim = layer.dims[0]
        offset = dim - other.ndim
        if len(layer.dims) == 1 and (x.ndim < -offset or x.shape[offset] == 1):
            layers.append(layer.with_nonzero(True))
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
            resizer.function(operator.getitem, resizer.new(node), i) if value == want else want
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
    return resizer.call(node, (x, *new_sizes) if node.op == "call_method" else (x, tuple(new_sizes)))


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
    """squeeze() without dimensions names them, so that a channel dimension cut to 1 stays."""
    source = source_node(node)
    if len(node.args) > 1 or node.kwargs:
        return resizer.copy(node)
    value = resizer.lineage.values[source]
    if not any(k is not None and k.numel() == 1 for k in resizer.keep(source)):
        return resizer.copy(node)
    ones = tuple(d for d, size in enumerate(value.shape) if size == 1)
    return resizer.function(torch.squeeze, resizer.new(source), ones)


def resize_by_index(resizer: Resizer, node: fx.Node) -> fx.Node:
    """roll, channel shuffle, …: where the channels are cut, an index selection does the same move."""
    source = source_node(node)
    if not resizer.is_resized(source) and not resizer.is_resized(node):
        return resizer.copy(node)
    value, result = resizer.lineage.values[source], resizer.lineage.values[node]
    new = resizer.new(source)
    if _moves_only(resizer, node, value, resizer.keep(source)):
        return resizer.copy(node)
    keep_in, keep_out = resizer.keep(source), resizer.keep(node)
    resized = [d for d in range(value.ndim) if keep_in[d] is not None or keep_out[d] is not None]
    if value.ndim != result.ndim or len(resized) != 1:
        return resizer.copy(node)
    dim = resized[0]
    mapping = _dim_map(resizer, node, value, dim)
    if mapping is not None:
        kept_in, kept_out = keep_in[dim], keep_out[dim]
        wanted = mapping if kept_out is None else mapping[kept_out]
        position = wanted if kept_in is None else torch.searchsorted(kept_in, wanted)
        moved_elsewhere = _without_dim(resizer, node, new, dim)
        return resizer.function(torch.index_select, moved_elsewhere, dim, resizer.index_buffer(node, position))
    return resizer.copy(node)


def _moves_only(resizer: Resizer, node: fx.Node, value: TensorValue, keep: Keep) -> bool:
    """Whether the op leaves every cut dimension as it is."""
    for dim, kept in enumerate(keep):
        if kept is None:
            continue
        line = _dim_map(resizer, node, value, dim)
        if line is None or not torch.equal(line, torch.arange(value.shape[dim])):
            return False
    return True


def _dim_map(resizer: Resizer, node: fx.Node, value: TensorValue, dim: int) -> Tensor | None:
    """Which source coordinate along ``dim`` each result coordinate comes from."""
    shape = [1] * value.ndim
    shape[dim] = value.shape[dim]
    marks = torch.arange(value.shape[dim]).reshape(shape).expand(value.shape)
    args = (marks, *resizer.original(node.args[1:]))
    module = resizer.source.get_submodule(str(node.target)) if node.op == "call_module" else None
    moved = meta_call(node, args, resizer.original(dict(node.kwargs)), module)
    line = moved[tuple(slice(None) if d == dim else 0 for d in range(moved.dim()))]
    return line if isinstance(line, Tensor) else None


def _without_dim(resizer: Resizer, node: fx.Node, new: fx.Node, dim: int) -> fx.Node:
    """The part of a roll or flip that concerns other dimensions than ``dim``."""
    if target_name(node) == "roll":
        shifts, dims = resizer.original((argument(node, 1, "shifts"), argument(node, 2, "dims")))
        if dims is None:
            return new
        ndim = len(resizer.shape(node))
        pairs = zip(_as_tuple(shifts), _as_tuple(dims), strict=True)
        rest = [(s, d % ndim) for s, d in pairs if d % ndim != dim]
        if rest:
            return resizer.function(torch.roll, new, tuple(s for s, _ in rest), tuple(d for _, d in rest))
    return new


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
        "unsqueeze", "repeat_interleave", "tile", "repeat", "transpose_", "unsqueeze_", "t_",
    ],
)  # fmt: skip
REGISTRY.add(OpRecord("window", window), functions=[torch.diagonal], methods=["unfold", "diagonal"])
REGISTRY.add(OpRecord("squeeze", movement, resize_squeeze), functions=[torch.squeeze], methods=["squeeze", "squeeze_"])
REGISTRY.add(OpRecord("roll", movement, resize_by_index), functions=[torch.roll], methods=["roll"])
_SHUFFLE = OpRecord("channel shuffle", movement, resize_by_index)
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
REGISTRY.add(OpRecord("expand_as", expand_as), methods=["expand_as"])
REGISTRY.add(OpRecord("view_as", view_as), methods=["view_as", "reshape_as"])
