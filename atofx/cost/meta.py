"""Modules and inputs on torch's meta device, with zeros for what has no values there, so that they can be run.

Zeros that nobody writes to take no memory, but for what a pass computes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn


def replacements(module: nn.Module) -> dict[int, torch.Tensor]:
    """By identity, zeros on the CPU for every parameter and buffer on the meta device: a memo of ``deepcopy``."""
    found: dict[int, torch.Tensor] = {
        id(parameter): nn.Parameter(zeros(parameter), requires_grad=parameter.requires_grad)
        for parameter in module.parameters()
        if parameter.is_meta
    }
    return found | {id(buffer): zeros(buffer) for buffer in module.buffers() if buffer.is_meta}


def zeros(tensor: torch.Tensor) -> torch.Tensor:
    """Zeros of the same shape and type where the tensor is; on the CPU if that is the meta device."""
    return torch.zeros_like(tensor, device="cpu" if tensor.is_meta else None)


def name_cpu_(graph: fx.Graph) -> None:
    """Where a graph names the meta device (to make a tensor there), it names the CPU."""

    def other(value: Any) -> Any:
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == "meta" else value

    for node in graph.nodes:
        node.args = fx.node.map_aggregate(node.args, other)
        node.kwargs = fx.node.map_aggregate(node.kwargs, other)
