"""The layer norm of an uncut tensor on its kept elements, in eager mode: the native kernels, corrected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class CountedLayerNorm(torch.autograd.Function):
    """Layer norm with a = ``share`` of the elements kept, in terms of the native one of the kept.

    With m and r the kept elements' mean and reciprocal standard deviation (of variance + eps/a) and t = m r, the uncut
    tensor's are a m and c r, c = 1 / sqrt(a (1 + (1-a) t²)); a normalised element becomes (z + (1-a) t) c. The gradient
    is that of a norm over all elements, of which the cut ones pull nothing: means over them are a times those over the
    kept, so it is a times what the native backward kernel gives with the uncut statistics, plus (1-a) c r times the
    pull.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, shape: list[int], eps: float, share: float
    ) -> Tensor:
        """(..., kept elements) to the same shape."""
        result, mean, rstd = torch.native_layer_norm(input, shape, None, None, eps / share)
        ratio = mean * rstd
        scale = torch.rsqrt(share * (1 + (1 - share) * ratio * ratio))
        shift = (1 - share) * ratio * scale
        ctx.save_for_backward(input, share * mean, scale * rstd, weight, bias)
        ctx.shape, ctx.share = shape, share
        result.mul_(scale).add_(shift)
        if weight is not None:
            result.mul_(weight)
        return result if bias is None else result.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> Any:
        """Gradients of input, weight and bias."""
        kept, mean, rstd, weight, bias = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        precision = pull.dtype if weight is None else weight.dtype
        mean, rstd = mean.to(precision), rstd.to(precision)
        native, for_weight, for_bias = torch.ops.aten.native_layer_norm_backward(
            pull.contiguous(), kept.to(pull.dtype), ctx.shape, mean, rstd, weight, bias, wanted
        )
        if native is not None and wanted[0]:
            scaled = pull if weight is None else pull * weight
            native = (ctx.share * native + (1 - ctx.share) * rstd * scaled).to(kept.dtype)
        return native, for_weight if wanted[1] else None, for_bias if wanted[2] else None, None, None, None
