"""The memory layout of inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def laid_out(inputs: Any, *, channels_last: bool) -> Any:
    """Images (N, C, H, W) in channels-last order if that is wanted; other inputs have no such order."""
    if channels_last and isinstance(inputs, Tensor) and inputs.dim() == 4:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs
