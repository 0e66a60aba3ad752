"""Statistics over elements of which a share was kept; the others were zero, and are still counted.

With a = ``share``, the mean m and the variance v of the kept elements, the uncut tensor has the mean a m and the
variance a v + a (1 - a) m². Both terms are sums of squares about a mean: nothing cancels, in any precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from atofx.nn.layer_norm import CountedLayerNorm


def layer_norm(
    input: Tensor,
    ndim: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    share: float,
) -> Tensor:
    """Layer norm over the last ``ndim`` dimensions, ``share`` of whose elements were kept.

    Args:
        input: (..., kept elements).
        ndim: how many dimensions are normalised.
        weight: shape of the normalised dimensions, or None.
        bias: likewise.
        eps: added to the variance.
        share: kept elements divided by original ones, in (0, 1].
    """
    if has_torch_function((input, weight, bias)):
        result: Tensor = _leaf(layer_norm, input, ndim, weight, bias, eps, share=share)
        return result
    if torch.compiler.is_compiling():
        return _written_out(input, tuple(range(-ndim, 0)), weight, bias, eps, share)
    shape = input.shape[-ndim:]
    if _is_tracing():  # one layer_norm in the traced graph, for those who count or convert it
        statistics = _own_statistics(input, range(-ndim, 0), eps / share)
        return _corrected(F.layer_norm(input, shape, weight, bias, eps / share), statistics, weight, bias, share)
    counted: Tensor = CountedLayerNorm.apply(input, weight, bias, list(shape), eps, share)
    return counted


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    share: float,
) -> Tensor:
    """Group norm of (N, C, ...), ``share`` of every group's channels were kept; arguments as in :func:`layer_norm`."""
    if has_torch_function((input, weight, bias)):
        result: Tensor = _leaf(group_norm, input, num_groups, weight, bias, eps, share=share)
        return result
    batch, channels = input.shape[:2]
    per_channel = (1, channels, *[1] * (input.dim() - 2))
    weight = None if weight is None else weight.reshape(per_channel)
    bias = None if bias is None else bias.reshape(per_channel)
    if torch.compiler.is_compiling():
        apart = input.reshape(batch, num_groups, channels // num_groups, -1)
        normalised = _written_out(apart, (2, 3), None, None, eps, share).reshape_as(input)
        normalised = normalised if weight is None else normalised * weight
        return normalised if bias is None else normalised + bias
    mean, rstd = (
        s.expand(-1, -1, channels // num_groups).reshape(batch, *per_channel[1:])
        for s in _own_statistics(input.reshape(batch, num_groups, -1), (-1,), eps / share)
    )
    affine = F.group_norm(input, num_groups, _flat(weight), _flat(bias), eps / share)
    return _corrected(affine, (mean, rstd), weight, bias, share)


def rms_norm(
    input: Tensor, ndim: int, weight: Tensor | None = None, eps: float | None = None, *, share: float
) -> Tensor:
    """RMS norm over the last ``ndim`` dimensions: the native one with eps / share and weight / sqrt(share)."""
    if has_torch_function((input, weight)):
        result: Tensor = _leaf(rms_norm, input, ndim, weight, eps, share=share)
        return result
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    shape = input.shape[-ndim:]
    scale = float(share**-0.5)
    if weight is None:
        return F.rms_norm(input, shape, None, eps / share) * scale
    return F.rms_norm(input, shape, weight * scale, eps / share)


def var_mean(
    input: Tensor,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
    share: float,
) -> tuple[Tensor, Tensor]:
    """(variance, mean) over ``dim``, ``share`` of whose elements were kept; as :func:`torch.var_mean`."""
    if has_torch_function((input,)):
        pair: tuple[Tensor, Tensor] = _leaf(var_mean, input, dim, correction=correction, keepdim=keepdim, share=share)
        return pair
    variance, mean = torch.var_mean(input, dim, correction=0, keepdim=keepdim)
    kept = input.numel() / max(1, mean.numel())
    summed = kept * (variance + (1 - share) * mean * mean)
    return summed / (kept / share - correction), share * mean


def mean_square_deviation(input: Tensor, dim: list[int], *, keepdim: bool = False, share: float = 1.0) -> Tensor:
    """The mean of squared differences from the mean over ``dim``, ``share`` of whose elements were kept.

    Of whole tensors it is computed as models write it out, to the last bit.
    """
    if has_torch_function((input,)):
        result: Tensor = _leaf(mean_square_deviation, input, dim, keepdim=keepdim, share=share)
        return result
    if share == 1:
        return (input - input.mean(dim, keepdim=True)).square().mean(dim, keepdim=keepdim)
    return var_mean(input, tuple(dim), correction=0, keepdim=keepdim, share=share)[0]


def std_mean(
    input: Tensor,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
    share: float,
) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean), otherwise as :func:`var_mean`."""
    if has_torch_function((input,)):
        pair: tuple[Tensor, Tensor] = _leaf(std_mean, input, dim, correction=correction, keepdim=keepdim, share=share)
        return pair
    variance, mean = var_mean(input, dim, correction=correction, keepdim=keepdim, share=share)
    return variance.sqrt(), mean


def batch_norm(
    input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *, share: float
) -> Tensor:
    """Batch norm of (N, C, ...) by the batch's own statistics, ``share`` of every channel's elements were kept."""
    if has_torch_function((input, weight, bias)):
        result: Tensor = _leaf(batch_norm, input, weight, bias, eps, share=share)
        return result
    per_channel = (-1, *[1] * (input.dim() - 2))
    weight = None if weight is None else weight.reshape(per_channel)
    bias = None if bias is None else bias.reshape(per_channel)
    statistics = _own_statistics(input, [d for d in range(input.dim()) if d != 1], eps / share)
    affine = F.batch_norm(input, None, None, _flat(weight), _flat(bias), training=True, eps=eps / share)
    return _corrected(affine, statistics, weight, bias, share)


def _is_tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def _leaf(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return handle_torch_function(function, args, *args, **kwargs)


def _flat(vector: Tensor | None) -> Tensor | None:
    return None if vector is None else vector.flatten()


def _own_statistics(input: Tensor, dims: Sequence[int], eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(input, tuple(dims), correction=0, keepdim=True)
    return mean, torch.rsqrt(variance + eps)


def _correction(mean: Tensor, rstd: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """(scale, shift) that do it before weight and bias."""
    ratio = mean * rstd
    scale = torch.rsqrt(share * (1 + (1 - share) * ratio * ratio))
    return scale, (1 - share) * ratio * scale


def _written_out(
    input: Tensor, dims: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float, share: float
) -> Tensor:
    """The definition, term by term: what a compiler fuses best."""
    variance, mean = torch.var_mean(input, dims, correction=0, keepdim=True)
    mean = share * mean
    result = (input - mean) * torch.rsqrt(share * variance + (1 / share - 1) * mean * mean + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _corrected(
    affine: Tensor, statistics: tuple[Tensor, Tensor], weight: Tensor | None, bias: Tensor | None, share: float
) -> Tensor:
    """A result normalised by the kept elements' statistics, weight and bias applied, turned into one by all's."""
    scale, shift = _correction(*statistics, share)
    result = affine * scale + (shift if weight is None else shift * weight)
    return result if bias is None else result + (1 - scale) * bias
