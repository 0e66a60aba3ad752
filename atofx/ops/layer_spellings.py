"""Overloads of ``torch.ops.aten`` for layers: contractions, norms, pooling, interpolation."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from atofx.ops.spellings import Spelling, spells


@spells("einsum")
def _einsum(equation: str, tensors: Any, *, path: Any = None) -> Any:
    return torch.einsum(equation, *tensors)


@spells("embedding")
def _embedding(weight: Any, indices: Any, padding_idx: int = -1, *rest: Any) -> Any:
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx)


@spells("convolution")
def _convolution(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, extra: Any, groups: int
) -> Any:
    spatial = weight.dim() - 2
    if transposed:
        function = getattr(F, f"conv_transpose{spatial}d")
        return function(x, weight, bias, stride, padding, extra, groups, dilation)
    return getattr(F, f"conv{spatial}d")(x, weight, bias, stride, padding, dilation, groups)


@spells("batch_norm")
def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: Any, momentum: float, eps: float, cudnn: bool
) -> Any:
    return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)


@spells("instance_norm")
def _instance_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, use_input_stats: bool, momentum: float, eps: float, cudnn: bool
) -> Any:
    return F.instance_norm(x, mean, var, weight, bias, use_input_stats, momentum, eps)


@spells("layer_norm")
def _layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn: bool = True) -> Any:
    return F.layer_norm(x, shape, weight, bias, eps)


@spells("group_norm")
def _group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn: bool = True
) -> Any:
    return F.group_norm(x, groups, weight, bias, eps)


@spells("rms_norm")
def _rms_norm(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    return F.rms_norm(x, shape, weight, eps)


@spells("im2col")
def _im2col(x: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    return F.unfold(x, kernel, dilation, padding, stride)


@spells("col2im")
def _col2im(x: Any, size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    return F.fold(x, size, kernel, dilation, padding, stride)


def _pool_with_indices(spatial: int) -> Spelling:
    return lambda x, *args: getattr(F, f"max_pool{spatial}d_with_indices")(x, *args)


def _adaptive_max_pool(spatial: int) -> Spelling:
    return lambda x, size: getattr(F, f"adaptive_max_pool{spatial}d_with_indices")(x, size)


for _size_ in (1, 2, 3):
    spells(f"max_pool{_size_}d_with_indices")(_pool_with_indices(_size_))
    spells(f"adaptive_max_pool{_size_}d")(_adaptive_max_pool(_size_))


def _upsample(mode: str) -> Spelling:
    """The nearest modes have no ``align_corners``."""

    def call(x: Any, size: Any, *rest: Any) -> Any:
        *align, factors = rest
        return F.interpolate(x, size, factors, mode, *align)

    return call


for _name, _mode in {
    "upsample_nearest1d": "nearest", "upsample_nearest2d": "nearest", "upsample_nearest3d": "nearest",
    "_upsample_nearest_exact1d": "nearest-exact", "_upsample_nearest_exact2d": "nearest-exact",
    "_upsample_nearest_exact3d": "nearest-exact", "upsample_linear1d": "linear", "upsample_bilinear2d": "bilinear",
    "upsample_trilinear3d": "trilinear", "upsample_bicubic2d": "bicubic",
}.items():  # fmt: skip
    spells(f"{_name}.vec")(_upsample(_mode))


def _smooth(mode: str) -> Spelling:
    """Interpolation with antialiasing."""

    def call(x: Any, size: Any, align_corners: bool, factors: Any = None) -> Any:
        return F.interpolate(x, size, factors, mode, align_corners, antialias=True)

    return call


spells("_upsample_bilinear2d_aa.vec")(_smooth("bilinear"))
spells("_upsample_bicubic2d_aa.vec")(_smooth("bicubic"))


@spells("grid_sampler")
def _grid_sampler(x: Any, grid: Any, mode: int, padding: int, align_corners: bool) -> Any:
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    return F.grid_sample(x, grid, modes[mode], paddings[padding], align_corners)
