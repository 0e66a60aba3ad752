"""Peak memory of a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def peak_on_gpu(run: Callable[[], Any]) -> int:
    """Bytes that PyTorch's allocator holds at most during a run, on top of what it held before: scratch memory too."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
