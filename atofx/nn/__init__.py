"""Modules of compact models that PyTorch has no counterpart for: norms that keep their original element count."""

from atofx.nn.norms import CutGroupNorm, CutLayerNorm, CutRMSNorm

__all__ = ["CutGroupNorm", "CutLayerNorm", "CutRMSNorm"]
