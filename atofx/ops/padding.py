"""Padding of any dimension, with constants, reflections, repetitions or around the circle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from atofx.ir.values import ANYTHING, NONE, Layer, TensorValue, agreed
from atofx.ops.arguments import argument, source_node
from atofx.ops.context import LineageContext
from atofx.ops.positions import countable
from atofx.ops.registry import REGISTRY, BoundCall, OpRecord
from atofx.ops.resize import Resizer, places


def pad(
    ctx: LineageContext, x: TensorValue, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> TensorValue:
    """F.pad: along a channel dimension zeros become new ids that join whatever they meet."""
    computed = isinstance(argument(ctx.node, 3, "value"), fx.Node)  # with the size of an image, for example
    fill = ANYTHING if computed else value or 0.0
    layers = []
    for layer in countable(ctx, x, _counted(ctx, x, pad, mode), "padded", "padding").layers:
        for position in range(len(pad) // 2):
            dim = x.ndim - 1 - position
            before, after = pad[2 * position], pad[2 * position + 1]
            if before or after:
                layer = _pad_dim(ctx, layer, dim, (before, after), mode, fill)
        layers.append(layer)
    padded = ctx.value(ctx.out, layers)
    if mode == "constant" and fill == -math.inf:
        ctx.padded_with_least[ctx.node] = padded, x
    return padded


def _counted(ctx: LineageContext, x: TensorValue, pad: Sequence[int], mode: str) -> list[int]:
    """The dimensions along which positions count."""
    given = pad if ctx.node.op == "call_module" else argument(ctx.node, 1, "pad")
    ends = [slice(i, i + 2) for i in range(0, len(pad), 2)]
    return [x.ndim - 1 - i for i, end in enumerate(ends) if _counts(given[end], pad[end], mode)]


def _counts(given: Sequence[Any], amount: Sequence[int], mode: str) -> bool:
    """Whether positions count: more happens than that a given number of constants is added."""
    computed = any(isinstance(end, fx.Node) for end in given)
    return any(amount) and (computed or min(amount) < 0 or mode != "constant")


def _pad_dim(ctx: LineageContext, layer: Layer, dim: int, amount: tuple[int, int], mode: str, fill: float) -> Layer:
    if layer.shape[dim] == 1:
        if mode == "constant" and max(amount) > 0:
            same = isinstance(layer.at_rest, float) and layer.at_rest == fill
            return layer if same else layer.with_rest(agreed(layer.rest, torch.tensor(fill, dtype=torch.float64)))
        return layer
    source = torch.arange(layer.shape[dim], dtype=torch.float64).reshape(1, 1, -1)
    if mode == "constant":
        picked = F.pad(source, amount, value=-1.0)
    else:
        picked = F.pad(source, amount, mode=mode)
    index = picked.reshape(-1).long()
    ids = layer.ids.index_select(dim, index.clamp(min=0))
    rest = layer.rest.index_select(dim, index.clamp(min=0))
    outside = (index < 0).nonzero().flatten()
    if outside.numel():
        count = outside.numel() * (ids.numel() // ids.shape[dim])
        if fill == 0:
            new = torch.arange(ctx.num_ids, ctx.num_ids + count)
            ctx.num_ids += count
        else:
            new = torch.full((count,), NONE)
        block = list(ids.shape)
        block[dim] = outside.numel()
        ids = ids.index_copy(dim, outside, new.reshape(block))
        rest = rest.index_copy(dim, outside, torch.full(block, fill, dtype=torch.float64))
    return Layer(ids, rest)


def resize_pad(resizer: Resizer, node: fx.Node) -> Any:
    """Cut dimensions are padded by the number of kept padding channels; other modes select from the padded whole."""
    source = source_node(node)
    amounts, mode, value = _call(resizer, node)
    ndim = len(resizer.shape(source))
    keep_in, keep_out = resizer.keep(source), resizer.keep(node)
    cut = [d for d in range(ndim) if keep_in[d] is not None or keep_out[d] is not None]
    padded = [d for d in cut if d >= ndim - len(amounts) // 2 and any(_amount(resizer, amounts, ndim, d))]
    if not padded:
        return resizer.copy(node)
    for dim in padded:
        if _counts(_ends(amounts, ndim, dim), _amount(resizer, amounts, ndim, dim), mode):
            resizer.fix(source, [dim])
    new_amounts = [resizer.number(a) for a in amounts]
    result = resizer.new(source)
    for dim in padded:
        size = resizer.lineage.values[source].shape[dim]
        before, after = _amount(resizer, amounts, ndim, dim)
        position = 2 * (ndim - 1 - dim)
        kept_in, kept_out = keep_in[dim], keep_out[dim]
        kept_in = torch.arange(size) if kept_in is None else kept_in
        kept_out = torch.arange(size + before + after) if kept_out is None else kept_out
        if mode == "constant":
            new_amounts[position] = int((kept_out < before).sum()) if before > 0 else before
            new_amounts[position + 1] = int((kept_out >= before + size).sum()) if after > 0 else after
            inner = kept_in[(kept_in >= -min(before, 0)) & (kept_in < size + min(after, 0))]
            if before < 0:
                new_amounts[position] = -int((kept_in < inner.min()).sum())
            if after < 0:
                new_amounts[position + 1] = -int((kept_in > inner.max()).sum())
            continue
        numbers = torch.arange(size, dtype=torch.float64).reshape(1, 1, -1)
        line = F.pad(numbers, (before, after), mode=mode).reshape(-1).long()
        index = places(kept_in, size, line[kept_out.unique_consecutive()])
        result = resizer.function(torch.index_select, result, dim, resizer.index_buffer(node, index))
        new_amounts[position] = new_amounts[position + 1] = 0
    if all(isinstance(a, int) and a == 0 for a in new_amounts):
        return result
    if mode != "constant":
        while len(new_amounts) > 2 and new_amounts[-2:] == [0, 0]:
            new_amounts = new_amounts[:-2]
    return resizer.function(F.pad, result, tuple(new_amounts), mode, resizer.number(value))


def _call(resizer: Resizer, node: fx.Node) -> tuple[Sequence[Any], str, float | None]:
    if node.op == "call_module":
        module = resizer.source.get_submodule(str(node.target))
        return _module_amounts(module), _mode(module), getattr(module, "value", None)
    return argument(node, 1, "pad"), argument(node, 2, "mode", "constant"), argument(node, 3, "value")


def _amount(resizer: Resizer, amounts: Sequence[Any], ndim: int, dim: int) -> tuple[int, int]:
    before, after = resizer.original(tuple(_ends(amounts, ndim, dim)))
    return int(before), int(after)


def _ends(amounts: Sequence[Any], ndim: int, dim: int) -> Sequence[Any]:
    position = 2 * (ndim - 1 - dim)
    return amounts[position : position + 2]


_MODES: dict[type[nn.Module], str] = {
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), "constant"),
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), "constant"),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), "reflect"),
    **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d), "replicate"),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d), "circular"),
}


def _mode(module: nn.Module) -> str:
    return next(mode for cls, mode in _MODES.items() if isinstance(module, cls))


def _module_amounts(module: nn.Module) -> tuple[int, ...]:
    padding: Any = module.padding
    assert isinstance(padding, (tuple, list))
    return tuple(padding)


def _bind(ctx: LineageContext, module: nn.Module, x: TensorValue) -> BoundCall:
    return (x, _module_amounts(module)), {"mode": _mode(module), "value": getattr(module, "value", None)}


_PAD = OpRecord("pad", pad, resize_pad)
REGISTRY.add(_PAD, functions=[F.pad, torch.constant_pad_nd, torch._C._nn.pad])
REGISTRY.add(_PAD, modules=list(_MODES), bind=_bind)
