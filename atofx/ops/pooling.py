"""Pooling, resampling, pixel shuffles and patch extraction: spatial dimensions are mixed or moved, channels pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atofx.ir.values import Layer, TensorValue
from atofx.ops.arguments import argument, argument_node
from atofx.ops.context import LineageContext, tensors_in
from atofx.ops.evaluate import contiguous_meta
from atofx.ops.meeting import meet, zero_if
from atofx.ops.reduction import same_layers
from atofx.ops.registry import REGISTRY, OpRecord


def pool(
    spatial: int | None, *, maximum: bool = False, constants: bool = False, adaptive: bool = False
) -> Callable[..., Any]:
    """A lineage function for pooling over the last ``spatial`` dimensions (all but two if None).

    Args:
        spatial: how many dimensions it mixes.
        maximum: whether padding with minus infinity before it goes unseen.
        constants: whether any constant stays what it is; zeros do always.
        adaptive: whether it is asked for the size of the result.
    """

    def lineage(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> Any:
        count = x.ndim - 2 if spatial is None else spatial
        for other in tensors_in((args, kwargs)):
            ctx.pin_value(other, f"{ctx.op_name} uses it as coordinates")
        if maximum:
            x = _without_least(ctx, x, count, args, kwargs)
        x = ctx.confine(x, range(x.ndim - count), f"{ctx.op_name} mixes it along spatial dimensions")
        layers = [layer if constants else layer.only_zeros() for layer in x.layers]
        ctx.cost([layer.labels for layer in layers])
        if adaptive and _names_its_size(ctx, count):
            ctx.named_sizes[ctx.node] = frozenset(range(x.ndim - count, x.ndim))
        return same_layers(ctx, ctx.out, layers)

    return lineage


def _names_its_size(ctx: LineageContext, count: int) -> bool:
    """Whether the result of an adaptive pooling is as large for every image: sizes neither computed nor left free."""
    size = argument(ctx.node, 1, "output_size") if ctx.module is None else ctx.module.output_size
    return all(isinstance(one, int) for one in _per_axis(size, count))


def _without_least(
    ctx: LineageContext, x: TensorValue, count: int, args: Sequence[Any], kwargs: dict[str, Any]
) -> TensorValue:
    """The zero facts from before a padding with minus infinity, if every window holds an element that is no padding."""
    source = argument_node(ctx.node, 0, "input")
    padded, inner = (x, x) if source is None else ctx.padded_with_least.get(source, (x, x))
    if padded is not x or inner is x or len(inner.layers) != len(x.layers):
        return x
    given = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    given |= {} if ctx.module is None else {name: getattr(ctx.module, name) for name in _MAX_POOL}
    given |= dict(zip(_MAX_POOL, args, strict=False)) | kwargs
    kernel, own, dilation = (_per_axis(given[name], count) for name in ("kernel_size", "padding", "dilation"))
    added = [outer - size for outer, size in zip(x.shape[-count:], inner.shape[-count:], strict=True)]
    covered = all(k > a + p and d == 1 for k, a, p, d in zip(kernel, added, own, dilation, strict=True))
    return TensorValue(x.meta, inner.layers) if covered and not given["ceil_mode"] else x


_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _per_axis(value: Any, count: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * count


def unpool(ctx: LineageContext, x: TensorValue, indices: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """max_unpool: every channel's values go to the places its own indices name."""
    spatial = x.ndim - 2
    reason = "max_unpool moves it along spatial dimensions"
    both = [ctx.confine(t, range(t.ndim - spatial), reason) for t in (x, indices)]
    return ctx.value(ctx.out, meet(ctx, both, x.shape, zero_if(lambda zeros: zeros[0])))


def pixel_shuffle(ctx: LineageContext, x: TensorValue, upscale_factor: int) -> TensorValue:
    """(…, C·r², H, W) -> (…, C, H·r, W·r): the r² channels of one output channel are one unit."""
    area = upscale_factor**2
    x = ctx.confine(x, range(x.ndim - 2), "pixel shuffle moves it along spatial dimensions")
    layers = [_gathered(ctx, y, x.ndim - 3, area) for y in x.layers]
    return ctx.value(ctx.out, layers)


def _gathered(ctx: LineageContext, layer: Layer, dim: int, area: int) -> Layer:
    if layer.shape[dim] == 1:
        return layer
    shape = list(layer.shape)
    shape[dim : dim + 1] = [shape[dim] // area, area]
    tied = ctx.tie(layer.moved(lambda t: t.reshape(shape)), [dim + 1])
    return tied.moved(lambda t: t.squeeze(dim + 1))


def pixel_unshuffle(ctx: LineageContext, x: TensorValue, downscale_factor: int) -> TensorValue:
    """(…, C, H·r, W·r) -> (…, C·r², H, W)."""
    x = ctx.confine(x, range(x.ndim - 2), "pixel unshuffle moves it along spatial dimensions")
    return ctx.value(ctx.out, [_repeated(y, x.ndim - 3, downscale_factor**2) for y in x.layers])


def _repeated(layer: Layer, dim: int, area: int) -> Layer:
    if layer.shape[dim] == 1:
        return layer
    return layer.moved(lambda t: t.repeat_interleave(area, dim))


def unfold(ctx: LineageContext, x: TensorValue, kernel_size: Any, *args: Any, **kwargs: Any) -> TensorValue:
    """im2col: (N, C, H, W) -> (N, C·k, L)."""
    x = ctx.confine(x, range(x.ndim - 2), "unfold moves it along spatial dimensions")
    area = _area(kernel_size)
    layers = []
    for layer in x.layers:
        repeated = _repeated(layer.only_zeros(), x.ndim - 3, area)  # it may pad with zeros
        shape = (*repeated.shape[: x.ndim - 2], 1)
        layers.append(repeated.moved(partial(torch.reshape, shape=shape)))
    return ctx.value(ctx.out, layers)


def fold(
    ctx: LineageContext, x: TensorValue, output_size: Any, kernel_size: Any, *args: Any, **kwargs: Any
) -> TensorValue:
    """col2im: (N, C·k, L) -> (N, C, H, W)."""
    x = ctx.confine(x, range(x.ndim - 1), "fold moves it along spatial dimensions")
    layers = []
    for layer in x.layers:
        gathered = _gathered(ctx, layer.only_zeros(), x.ndim - 2, _area(kernel_size))  # windows may overlap
        shape = (*gathered.shape[: x.ndim - 1], 1, 1)
        layers.append(gathered.moved(partial(torch.reshape, shape=shape)))
    return ctx.value(ctx.out, layers)


def _area(kernel_size: Any) -> int:
    if isinstance(kernel_size, int):
        return kernel_size**2
    height, width = kernel_size
    return int(height * width)


def adaptive_shape(module: nn.Module, x: Tensor) -> Tensor | None:
    """The result of adaptive pooling to sizes that the module names."""
    spatial = _SPATIAL.get(type(module), 0)
    if not spatial or x.dim() <= spatial or not x.is_contiguous():
        return None
    wanted: tuple[int | None, ...] = _per_axis(module.output_size, spatial)
    given = x.shape[-spatial:]
    shape = [n if size is None else size for n, size in zip(given, wanted, strict=True)]
    return contiguous_meta((*x.shape[:-spatial], *shape), x.dtype)


#: Modules whose shape is known without running them; those that give indices on demand are run.
_SPATIAL: dict[type[nn.Module], int] = {nn.AdaptiveAvgPool1d: 1, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveAvgPool3d: 3}

_KINDS = (
    ("max_pool", "MaxPool", True, True),
    ("avg_pool", "AvgPool", False, False),  # may count its padding
    ("adaptive_avg_pool", "AdaptiveAvgPool", False, True),
    ("adaptive_max_pool", "AdaptiveMaxPool", False, True),
    ("lp_pool", "LPPool", False, False),
)
for _spatial in (1, 2, 3):
    for _name, _module, _maximum, _constants in _KINDS:
        _spellings = [getattr(space, f"{_name}{_spatial}d", None) for space in (F, torch)]
        _spellings.append(getattr(F, f"{_name}{_spatial}d_with_indices", None))
        REGISTRY.add(
            OpRecord(
                "pooling",
                pool(_spatial, maximum=_maximum, constants=_constants, adaptive=_name.startswith("adaptive")),
                shape=adaptive_shape,
            ),
            functions=[f for f in _spellings if f is not None],
            modules=[getattr(nn, f"{_module}{_spatial}d")] if hasattr(nn, f"{_module}{_spatial}d") else [],
        )
REGISTRY.add(
    OpRecord("interpolate", pool(None, constants=True)),
    functions=[F.interpolate, F.upsample],
    modules=[nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d],
)
REGISTRY.add(OpRecord("grid sample", pool(None)), functions=[F.grid_sample])
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
