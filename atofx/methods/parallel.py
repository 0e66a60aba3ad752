"""Agreement between processes: nothing to do in one, averages and broadcasts in many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist


def is_parallel() -> bool:
    """Whether this is one of several processes of ``torch.distributed``."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average(tensors: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Mean of each tensor over all processes; ``device`` is where the process group communicates."""
    if not is_parallel():
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors]).to(device)
    dist.all_reduce(flat)
    flat = (flat / dist.get_world_size()).to(tensors[0].device)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def agree(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The first process' tensor, on all processes."""
    if not is_parallel():
        return tensor
    shared = tensor.to(device=device, dtype=torch.uint8, copy=True)
    dist.broadcast(shared, src=0)
    return shared.to(device=tensor.device, dtype=tensor.dtype)
