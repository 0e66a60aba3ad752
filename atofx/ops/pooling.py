"""Pooling, resampling, pixel shuffles and patch extraction: spatial dimensions are mixed or moved, channels pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from atofx.ir.values import Layer, TensorValue
from atofx.ops.context import LineageContext, tensors_in
from atofx.ops.pointwise import meet
from atofx.ops.reduction import same_layers
from atofx.ops.registry import REGISTRY, OpRecord


def pool(spatial: int | None) -> Callable[..., Any]:
    """A lineage function for pooling over the last ``spatial`` dimensions (all but two if None). Zeros stay zeros."""

    def lineage(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> Any:
        count = x.ndim - 2 if spatial is None else spatial
        for other in tensors_in((args, kwargs)):
            ctx.pin_value(other, f"{ctx.op_name} uses it as coordinates")
        x = ctx.confine(x, range(x.ndim - count), f"{ctx.op_name} mixes it along spatial dimensions")
        layers = list(x.layers)
        ctx.cost([layer.ids for layer in layers])
        return same_layers(ctx, ctx.out, layers)

    return lineage


def unpool(ctx: LineageContext, x: TensorValue, indices: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """max_unpool: every channel's values go to the places its own indices name."""
    spatial = x.ndim - 2
    reason = "max_unpool moves it along spatial dimensions"
    both = [ctx.confine(t, range(t.ndim - spatial), reason) for t in (x, indices)]
    return ctx.value(ctx.out, meet(ctx, both, x.shape, lambda zeros: zeros[0]))


def pixel_shuffle(ctx: LineageContext, x: TensorValue, upscale_factor: int) -> TensorValue:
    """(…, C·r², H, W) -> (…, C, H·r, W·r): the r² channels of one output channel are one unit."""
    area = upscale_factor**2
    x = ctx.confine(x, range(x.ndim - 2), "pixel shuffle moves it along spatial dimensions")
    layers = [_gathered(ctx, y, x.ndim - 3, area) for y in x.layers]
    return ctx.value(ctx.out, layers)


def _gathered(ctx: LineageContext, layer: Layer, dim: int, area: int) -> Layer:
    if layer.ids.shape[dim] == 1:
        return layer
    shape = list(layer.ids.shape)
    shape[dim : dim + 1] = [shape[dim] // area, area]
    tied = ctx.tie(Layer(layer.ids.reshape(shape), layer.nonzero.reshape(shape)), [dim + 1])
    return Layer(tied.ids.squeeze(dim + 1), tied.nonzero.squeeze(dim + 1))


def pixel_unshuffle(ctx: LineageContext, x: TensorValue, downscale_factor: int) -> TensorValue:
    """(…, C, H·r, W·r) -> (…, C·r², H, W)."""
    x = ctx.confine(x, range(x.ndim - 2), "pixel unshuffle moves it along spatial dimensions")
    return ctx.value(ctx.out, [_repeated(y, x.ndim - 3, downscale_factor**2) for y in x.layers])


def _repeated(layer: Layer, dim: int, area: int) -> Layer:
    if layer.ids.shape[dim] == 1:
        return layer
    return Layer(layer.ids.repeat_interleave(area, dim), layer.nonzero.repeat_interleave(area, dim))


def unfold(ctx: LineageContext, x: TensorValue, kernel_size: Any, *args: Any, **kwargs: Any) -> TensorValue:
    """im2col: (N, C, H, W) -> (N, C·k, L)."""
    x = ctx.confine(x, range(x.ndim - 2), "unfold moves it along spatial dimensions")
    area = _area(kernel_size)
    layers = []
    for layer in x.layers:
        repeated = _repeated(layer, x.ndim - 3, area)
        shape = (*repeated.ids.shape[: x.ndim - 2], 1)
        layers.append(Layer(repeated.ids.reshape(shape), repeated.nonzero.reshape(shape)))
    return ctx.value(ctx.out, layers)


def fold(
    ctx: LineageContext, x: TensorValue, output_size: Any, kernel_size: Any, *args: Any, **kwargs: Any
) -> TensorValue:
    """col2im: (N, C·k, L) -> (N, C, H, W)."""
    x = ctx.confine(x, range(x.ndim - 1), "fold moves it along spatial dimensions")
    layers = []
    for layer in x.layers:
        gathered = _gathered(ctx, layer, x.ndim - 2, _area(kernel_size))
        shape = (*gathered.ids.shape[: x.ndim - 1], 1, 1)
        layers.append(Layer(gathered.ids.reshape(shape), gathered.nonzero.reshape(shape)))
    return ctx.value(ctx.out, layers)


def _area(kernel_size: Any) -> int:
    if isinstance(kernel_size, int):
        return kernel_size**2
    height, width = kernel_size
    return int(height * width)


_KINDS = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool")
_MODULE_NAMES = ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "LPPool")
for _spatial in (1, 2, 3):
    _record = OpRecord("pooling", pool(_spatial))
    _functions = [getattr(space, f"{kind}{_spatial}d", None) for kind in _KINDS for space in (F, torch)]
    _functions += [getattr(F, f"{kind}{_spatial}d_with_indices", None) for kind in ("max_pool", "adaptive_max_pool")]
    REGISTRY.add(
        _record,
        functions=[f for f in _functions if f is not None],
        modules=[getattr(nn, f"{name}{_spatial}d") for name in _MODULE_NAMES if hasattr(nn, f"{name}{_spatial}d")],
    )
REGISTRY.add(
    OpRecord("interpolate", pool(None)),
    functions=[F.interpolate, F.upsample, F.grid_sample],
    modules=[nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d],
)
REGISTRY.add(
    OpRecord("unpooling", unpool),
    functions=[
        F.max_unpool1d, F.max_unpool2d, F.max_unpool3d, torch._C._nn.max_unpool2d, torch._C._nn.max_unpool3d,
    ],
    modules=[nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d],
)  # fmt: skip
_SHUFFLE = OpRecord("pixel shuffle", pixel_shuffle)
REGISTRY.add(_SHUFFLE, functions=[F.pixel_shuffle])
REGISTRY.add(_SHUFFLE, modules=[nn.PixelShuffle], bind=lambda ctx, m, input: ((input, m.upscale_factor), {}))
_UNSHUFFLE = OpRecord("pixel unshuffle", pixel_unshuffle)
REGISTRY.add(_UNSHUFFLE, functions=[F.pixel_unshuffle])
REGISTRY.add(_UNSHUFFLE, modules=[nn.PixelUnshuffle], bind=lambda ctx, m, input: ((input, m.downscale_factor), {}))
_UNFOLD = OpRecord("unfold", unfold)
REGISTRY.add(_UNFOLD, functions=[F.unfold])
REGISTRY.add(_UNFOLD, modules=[nn.Unfold], bind=lambda ctx, m, input: ((input, m.kernel_size), {}))
_FOLD = OpRecord("fold", fold)
REGISTRY.add(_FOLD, functions=[F.fold])
REGISTRY.add(_FOLD, modules=[nn.Fold], bind=lambda ctx, m, input: ((input, m.output_size, m.kernel_size), {}))
