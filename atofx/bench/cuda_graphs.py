"""CUDA graphs: the kernels of a forward pass, recorded once and launched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.bench.eager import waits_for
from atofx.errors import ConfigError
from atofx.passes.record import call

_WARM_UP = 3  # passes before recording, in which libraries choose kernels and take their memory


def check() -> None:
    """Make sure that there is a GPU.

    Raises:
        ConfigError: there is none.
    """
    if not torch.cuda.is_available():
        raise ConfigError("the back end cudagraphs needs an NVIDIA GPU, and PyTorch sees none here")


def prepare(models: Sequence[nn.Module], inputs: Any) -> tuple[Callable[[], Any], ...]:
    """Record a forward pass of each model. Its results are overwritten by the next run.

    Raises:
        ConfigError: the inputs are not on a GPU, or a model does what cannot be recorded.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    if not tensors or any(tensor.device.type != "cuda" for tensor in tensors):
        raise ConfigError("the back end cudagraphs runs on a GPU; choose the device cuda for it")
    return tuple(_recorded(model, inputs) for model in models)


def _recorded(model: nn.Module, inputs: Any) -> Callable[[], Any]:
    settle = waits_for(inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                call(model, inputs)
        torch.cuda.current_stream().wait_stream(side)
        try:
            with torch.cuda.graph(graph):
                result = call(model, inputs)
        except RuntimeError as error:
            raise ConfigError(f"the model cannot be recorded as a CUDA graph: {str(error).splitlines()[0]}") from error

    def run() -> Any:
        graph.replay()
        settle()
        return result

    return run
