"""Convolutions and transposed convolutions in one, two and three dimensions, with any number of groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from atofx.ir.values import ANYTHING, NONE, Labels, Layer, TensorValue, as_tensor, zero_or_anything
from atofx.ops.arguments import argument, argument_node, source_node
from atofx.ops.context import KERNEL, LineageContext
from atofx.ops.contraction import add_bias, contract
from atofx.ops.evaluate import contiguous_meta
from atofx.ops.folding import fold_constants
from atofx.ops.registry import REGISTRY, BoundCall, OpRecord
from atofx.ops.resize import Resizer


def convolution(spatial: int, *, transposed: bool) -> Callable[..., TensorValue]:
    """The lineage function of conv{spatial}d or conv_transpose{spatial}d."""

    def lineage(
        ctx: LineageContext,
        input: TensorValue,
        weight: TensorValue,
        bias: TensorValue | None = None,
        stride: Any = 1,
        padding: Any = 0,
        *rest: Any,
        **kwargs: Any,
    ) -> TensorValue:
        # rest: (dilation, groups) of a convolution, (output_padding, groups, dilation) of a transposed one
        groups = int(kwargs.get("groups", rest[1] if len(rest) > 1 else 1))
        channel = input.ndim - 1 - spatial
        x = ctx.confine(input, range(channel + 1), "a convolution mixes it along its spatial dimensions")
        if weight.moved_leaf:
            w = _channel_axes(ctx, weight)
        else:
            w = ctx.confine(weight, (0, 1), KERNEL)
        if groups == 1:
            layers = _dense(ctx, x, w, channel, transposed=transposed)
        else:
            layers = _grouped(ctx, x, w, channel, groups, transposed=transposed)
        return add_bias(ctx, ctx.out, layers, bias, channel)

    return lineage


def _channel_axes(ctx: LineageContext, weight: TensorValue) -> TensorValue:
    """The weight with the layers of its kernel dimensions left out, which are kept."""
    kernel = [y for y in weight.layers if min(y.dims, default=2) >= 2]
    if not kernel:
        return weight
    for layer in kernel:
        ctx.pin(layer, KERNEL)
    return TensorValue(weight.meta, tuple([y for y in weight.layers if y not in kernel]), weight.moved_leaf)


def _dense(ctx: LineageContext, x: TensorValue, w: TensorValue, channel: int, *, transposed: bool) -> list[Layer]:
    operands, result = _letters(x.ndim - 1 - channel, w.ndim - 2, channel, transposed=transposed)
    nodes = [argument_node(ctx.node, 0, "input"), argument_node(ctx.node, 1, "weight")]
    activation = TensorValue(x.meta, x.layers)  # a constant or a parameter that is convolved is one too
    return contract(ctx, [activation, w], nodes, operands, result)


@lru_cache(maxsize=64)
def _letters(spatial: int, kernel: int, batch: int, *, transposed: bool) -> tuple[tuple[str, str], str]:
    """The letters of input and weight, and of the result."""
    before, after = "N" * batch, "pqrstu"[:spatial]
    weight = ("CO" if transposed else "OC") + "KLMNOP"[:kernel]
    return (f"{before}C{after}", weight), f"{before}O{after}"


_TOGETHER = "a grouped convolution reads it together with channels that are always kept"


def _grouped(
    ctx: LineageContext, x: TensorValue, w: TensorValue, channel: int, groups: int, *, transposed: bool
) -> list[Layer]:
    """Whole groups are units where there are at least as many as channels in one; else one index in every group is."""
    width = x.shape[channel] // groups
    out_width = w.shape[1] if transposed else w.shape[0] // groups
    x_layer = x.layer_on(channel)
    w_in, w_out = (0, 1) if transposed else (1, 0)
    fan_in, fan_out = _along(ctx, w, w_in), _along(ctx, w, w_out)
    batch_layers = [y for y in x.layers if y is not x_layer]
    shape = [1] * x.ndim
    shape[channel] = groups * out_width
    whole = groups >= width
    rows = fan_in if whole and transposed else fan_out
    if w.moved_leaf and rows is not None:
        ctx.mark_produced(rows.labels)
    if rows is None and x_layer is not None and w.shape[0] > 1:
        ctx.pin(x_layer, _TOGETHER)
    if whole:
        rest = 0.0 if any(one is not None and one.clean for one in (rows, x_layer)) else ANYTHING
        if width == 1 and x_layer is not None and rows is not None and math.prod(rows.shape) == groups:
            unit = _one_by_one(ctx, x_layer, rows, groups)
            _keep_inside(ctx, fan_in, fan_out, transposed=transposed)
        else:
            ids = _grouped_ids(x_layer, groups, width)
            unit = _whole_groups(ctx, ids, fan_in, fan_out, groups, transposed=transposed)
        if transposed or fan_out is None:
            out = Layer(as_tensor(unit)[:, None].expand(groups, out_width).reshape(-1), rest)
            ctx.cost([unit])
        else:
            out = Layer(fan_out.labels, rest)
            ctx.cost([fan_out.labels])
    else:
        ids = _grouped_ids(x_layer, groups, width)
        ids_out = _index_in_group(
            ctx, x_layer, ids, fan_in, fan_out, groups, width, out_width, w, transposed=transposed
        )
        ctx.cost([axis.labels for axis in (fan_in, fan_out) if axis is not None])
        out = Layer(ids_out, zero_or_anything((ids_out >= 0) & (fan_out is None or fan_out.clean)))
    return [*batch_layers, out.reshaped(shape)]


def _along(ctx: LineageContext, w: TensorValue, dim: int) -> Layer | None:
    """The weight's layer along one of its channel axes."""
    layer = w.layer_on(dim)
    if layer is None or len(layer.dims) == 1:
        return layer
    ctx.pin(layer, "a weight computed in the graph couples both of its channel axes")
    return ctx.tie(layer, [d for d in layer.dims if d != dim])


def _grouped_ids(layer: Layer | None, groups: int, width: int) -> Tensor:
    """(groups, width) ids of the input's channels."""
    return torch.full((groups, width), NONE) if layer is None else layer.ids.reshape(groups, width)


def _one_by_one(ctx: LineageContext, x: Layer, rows: Layer, groups: int) -> Labels:
    """Every group has one channel and one row: couple them, (groups,) ids."""
    labels = [layer.reshaped((groups,)).labels for layer in (x, rows)]
    return ctx.couple(labels, _TOGETHER)


def _keep_inside(ctx: LineageContext, fan_in: Layer | None, fan_out: Layer | None, *, transposed: bool) -> None:
    inner = fan_out if transposed else fan_in
    if inner is not None:
        ctx.pin(inner, "whole groups of a grouped convolution are removed, the channels inside one stay")


def _whole_groups(
    ctx: LineageContext,
    ids_in: Tensor,
    fan_in: Layer | None,
    fan_out: Layer | None,
    groups: int,
    *,
    transposed: bool,
) -> Tensor:
    """Tie every group's inputs and outputs into one unit, (groups,) ids; the weight's per-group axis stays whole."""
    unit = ids_in[:, 0]
    ctx.unify(ids_in, unit[:, None], _TOGETHER)
    rows = fan_in if transposed else fan_out
    if rows is not None:
        row_ids = rows.ids.reshape(groups, -1)
        ctx.unify(row_ids, unit[:, None], _TOGETHER)
        unit = torch.where(unit >= 0, unit, row_ids[:, 0])
    _keep_inside(ctx, fan_in, fan_out, transposed=transposed)
    return unit


def _index_in_group(
    ctx: LineageContext,
    x_layer: Layer | None,
    ids_in: Tensor,
    fan_in: Layer | None,
    fan_out: Layer | None,
    groups: int,
    width: int,
    out_width: int,
    w: TensorValue,
    *,
    transposed: bool,
) -> Tensor:
    """Tie the same index of every group: each group keeps equally many inputs, and equally many outputs."""
    why = "a grouped convolution reads it together with channels that are always kept"
    ctx.unify(ids_in, ids_in[:1], why)
    if fan_in is not None:
        weight_in = fan_in.ids.reshape(groups, width) if transposed else fan_in.ids.reshape(1, width)
        ctx.unify(weight_in, ids_in[:1], why)
        if w.moved_leaf:
            ctx.mark_consumed(weight_in)
    else:
        ctx.pin_ids(ids_in, "a grouped convolution with one channel a group reads it")
    if x_layer is not None:
        ctx.require_zero(x_layer)
        source = argument_node(ctx.node, 0, "input")
        if source is not None:
            ctx.gate(source, x_layer)
    if fan_out is None:
        return torch.full((groups * out_width,), -1)
    if transposed:
        return fan_out.ids.reshape(1, out_width).expand(groups, out_width).reshape(-1)
    rows = fan_out.ids.reshape(groups, out_width)
    ctx.unify(rows, rows[:1], why)
    return rows.reshape(-1)


# ---------------------------------------------------------------------- resize


def configure_conv(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.Conv*: channel counts and groups follow the sliced weight and the cut input."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    weight = module.weight
    kept_in = _channels(resizer, node, weight.dim() - 2)
    if module.transposed:
        groups = _kept_groups(resizer, node, module.groups, weight.dim() - 2)
        module.out_channels = weight.shape[1] * groups
    else:
        groups = kept_in // weight.shape[1]
        module.out_channels = weight.shape[0]
    module.in_channels = kept_in
    module.groups = groups
    fold_constants(module, resizer, node)


def resize_conv(transposed: bool) -> Callable[[Resizer, fx.Node], Any]:
    """F.conv*: the number of groups is the only literal that depends on channels."""

    def resize(resizer: Resizer, node: fx.Node) -> Any:
        position = 6
        groups = resizer.original(argument(node, position, "groups", 1))
        if groups == 1:
            return resizer.copy(node)
        weight = argument_node(node, 1, "weight")
        assert weight is not None
        spatial = len(resizer.shape(weight)) - 2
        if transposed:
            kept = _kept_groups(resizer, node, groups, spatial)
        else:
            kept = _channels(resizer, node, spatial) // resizer.shape(weight)[1]
        kept_groups = resizer.sizes(argument(node, position, "groups"), kept)
        new = resizer.copy(node)
        if len(node.args) > position:
            new.args = (*new.args[:position], kept_groups, *new.args[position + 1 :])
        else:
            new.kwargs = {**new.kwargs, "groups": kept_groups}
        return new

    return resize


def _channels(resizer: Resizer, node: fx.Node, spatial: int) -> int:
    shape = resizer.shape(source_node(node))
    return shape[len(shape) - 1 - spatial]


def _kept_groups(resizer: Resizer, node: fx.Node, groups: int, spatial: int) -> int:
    """A transposed convolution keeps all its groups unless whole groups go: then kept ones have their full width."""
    shape = resizer.lineage.values[source_node(node)].shape
    width = shape[len(shape) - 1 - spatial] // groups
    return _channels(resizer, node, spatial) // width if groups >= width else groups


def _bind(ctx: LineageContext, module: nn.Module, x: TensorValue, output_size: Any = None) -> BoundCall:
    return (x, ctx.module_leaf("weight", (0, 1)), ctx.module_leaf("bias")), {"groups": module.groups}


def conv_shape(module: nn.Module, x: Tensor) -> Tensor | None:
    """The result of nn.Conv* (not transposed, numeric padding): floor((n + 2p - d(k - 1) - 1) / s) + 1 per axis."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    padding, kernel = module.padding, module.kernel_size
    if isinstance(padding, str) or x.dim() != len(kernel) + 2 or x.shape[1] != module.in_channels:
        return None
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[2:], padding, module.dilation, kernel, module.stride, strict=True)
    ]
    if min(sizes) < 1:
        return None
    return contiguous_meta((x.shape[0], module.out_channels, *sizes), x.dtype)


_KINDS: tuple[tuple[int, bool, type[nn.Module], tuple[Any, ...]], ...] = (
    (1, False, nn.Conv1d, (F.conv1d, torch.conv1d)),
    (2, False, nn.Conv2d, (F.conv2d, torch.conv2d)),
    (3, False, nn.Conv3d, (F.conv3d, torch.conv3d)),
    (1, True, nn.ConvTranspose1d, (F.conv_transpose1d, torch.conv_transpose1d)),
    (2, True, nn.ConvTranspose2d, (F.conv_transpose2d, torch.conv_transpose2d)),
    (3, True, nn.ConvTranspose3d, (F.conv_transpose3d, torch.conv_transpose3d)),
)
for _spatial, _transposed, _module, _functions in _KINDS:
    _record = OpRecord(
        _module.__name__,
        convolution(_spatial, transposed=_transposed),
        resize_conv(_transposed),
        None if _transposed else conv_shape,
    )
    REGISTRY.add(_record, functions=_functions)
    REGISTRY.add(_record, modules=[_module], bind=_bind, configure=configure_conv, tensors=("weight", "bias"))
