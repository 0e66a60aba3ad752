"""PyTorch as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.passes.record import call


def prepare(models: Sequence[nn.Module], inputs: Any) -> tuple[Callable[[], Any], ...]:
    """A forward pass of each model on the inputs, without gradients."""
    return tuple(forward(model, inputs) for model in models)


def forward(model: nn.Module, inputs: Any) -> Callable[[], Any]:
    """A forward pass without gradients that has ended, on a GPU too, when it returns."""
    settle = waits_for(inputs)

    def run() -> Any:
        with torch.inference_mode():
            result = call(model, inputs)
        settle()
        return result

    return run


def waits_for(inputs: Any) -> Callable[[], None]:
    """A GPU works behind the program's back: a function that waits for the one the inputs are on, if they are."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}

    def settle() -> None:
        for device in devices:
            torch.cuda.synchronize(device)

    return settle
