"""Norms over channels some of which were cut: the cut ones were zero, and still count."""

from __future__ import annotations

from torch import Tensor, nn

from atofx.nn import functional


class CutLayerNorm(nn.LayerNorm):
    """The layer norm of the uncut tensor, on the kept elements.

    Attributes:
        share: kept elements divided by original ones, in (0, 1].
    """

    share: float

    @classmethod
    def of(cls, norm: nn.LayerNorm, share: float) -> CutLayerNorm:
        """A norm with the parameters of ``norm`` (already cut)."""
        result = cls(norm.normalized_shape, norm.eps, elementwise_affine=False)
        result.weight, result.bias, result.elementwise_affine = norm.weight, norm.bias, norm.elementwise_affine
        result.share = share * getattr(norm, "share", 1.0)
        return result

    def forward(self, input: Tensor) -> Tensor:
        """(..., kept elements) to the same shape."""
        return functional.layer_norm(
            input, len(self.normalized_shape), self.weight, self.bias, self.eps, share=self.share
        )

    def extra_repr(self) -> str:
        """The native one's, and the share."""
        return f"{super().extra_repr()}, share={self.share:.6g}"


class CutRMSNorm(nn.RMSNorm):
    """The RMS norm of the uncut tensor, on the kept elements; ``share`` as in :class:`CutLayerNorm`."""

    share: float

    @classmethod
    def of(cls, norm: nn.RMSNorm, share: float) -> CutRMSNorm:
        """A norm with the parameter of ``norm`` (already cut)."""
        result = cls(norm.normalized_shape, norm.eps, elementwise_affine=False)
        result.weight, result.elementwise_affine = norm.weight, norm.elementwise_affine
        result.share = share * getattr(norm, "share", 1.0)
        return result

    def forward(self, x: Tensor) -> Tensor:
        """(..., kept elements) to the same shape."""
        return functional.rms_norm(x, len(self.normalized_shape), self.weight, self.eps, share=self.share)

    def extra_repr(self) -> str:
        """The native one's, and the share."""
        return f"{super().extra_repr()}, share={self.share:.6g}"


class CutGroupNorm(nn.GroupNorm):
    """The group norm of the uncut tensor, equally many channels of every group kept; see :class:`CutLayerNorm`."""

    share: float

    @classmethod
    def of(cls, norm: nn.GroupNorm, share: float) -> CutGroupNorm:
        """A norm with the parameters of ``norm`` (already cut)."""
        result = cls(norm.num_groups, norm.num_channels, norm.eps, affine=False)
        result.weight, result.bias, result.affine = norm.weight, norm.bias, norm.affine
        result.share = share * getattr(norm, "share", 1.0)
        return result

    def forward(self, input: Tensor) -> Tensor:
        """(N, kept channels, ...) to the same shape."""
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps, share=self.share)

    def extra_repr(self) -> str:
        """The native one's, and the share."""
        return f"{super().extra_repr()}, share={self.share:.6g}"
