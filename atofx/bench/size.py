"""Size of a model on disk."""

from __future__ import annotations

import safetensors.torch
from torch import nn


def file_bytes(module: nn.Module) -> int:
    """Bytes of the state dict as a safetensors file, a tied tensor once."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return len(safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))
