"""What runs a forward pass: one file a back end, found here by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.bench import compiled, cuda_graphs, eager, onnx_runtime
from atofx.bench.setting import BackendName, Setting
from atofx.errors import ConfigError

#: One forward pass that has ended when it returns: ``() -> result``.
Run = Callable[[], Any]


def _nothing() -> None:
    """Needs nothing that PyTorch does not bring."""


@dataclass(frozen=True)
class Backend:
    """One way to run models.

    Attributes:
        prepare: (models in eval mode, their inputs) -> one run for each model, ready to be timed.
        check: raises a ConfigError where something that it needs is missing.
    """

    prepare: Callable[[Sequence[nn.Module], Any], tuple[Run, ...]]
    check: Callable[[], None] = _nothing


BACKENDS: Mapping[BackendName, Backend] = MappingProxyType(
    {
        "eager": Backend(eager.prepare),
        "compile": Backend(compiled.prepare),
        "onnxruntime": Backend(onnx_runtime.prepare, onnx_runtime.check),
        "cudagraphs": Backend(cuda_graphs.prepare, cuda_graphs.check),
    }
)


def check(setting: Setting) -> None:
    """Make sure, before anything is measured, that the setting's device and packages are here.

    Raises:
        ConfigError: one is not; the message says what to install or to choose.
    """
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch sees no GPU here; choose the device cpu")
    BACKENDS[setting.backend].check()


def results(value: Any) -> list[torch.Tensor]:
    """The tensors in what a run returned, in the order of the model's own results: on the CPU, fractions in float32."""
    tensors = [torch.as_tensor(leaf).detach().cpu() for leaf in pytree.tree_leaves(value) if hasattr(leaf, "shape")]
    return [tensor.float() if tensor.dtype.is_floating_point else tensor for tensor in tensors]
