"""Modules of compact models that PyTorch has no counterpart for, and new random weights for any module."""

from atofx.nn.fresh import Init, renew_
from atofx.nn.norms import CutGroupNorm, CutLayerNorm, CutRMSNorm

__all__ = ["CutGroupNorm", "CutLayerNorm", "CutRMSNorm", "Init", "renew_"]
