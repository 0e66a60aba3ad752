"""Under which circumstances a forward pass is timed, and models and inputs brought into them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.errors import ConfigError
from atofx.ir.copies import deepcopy
from atofx.passes.inputs import ExampleInputs

BackendName = Literal["eager", "compile", "onnxruntime", "cudagraphs"]
MemoryFormat = Literal["contiguous", "channels_last"]
Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Setting:
    """One way to run a forward pass.

    Attributes:
        backend: what runs it: PyTorch as it is, ``torch.compile``, ONNX Runtime, or recorded CUDA graphs.
        batch: first dimension of every input; None: that of the example.
        memory_format: of weights and images.
        dtype: of weights and floating inputs.
        device: where.
    """

    backend: BackendName = "eager"
    batch: int | None = None
    memory_format: MemoryFormat = "contiguous"
    dtype: Precision = "float32"
    device: Device = "cpu"

    def __str__(self) -> str:
        batch = "the example's batch" if self.batch is None else f"batch {self.batch}"
        return ", ".join((self.backend, batch, self.dtype, self.memory_format))


def all_settings(
    backends: Sequence[BackendName] = ("eager",),
    batches: Sequence[int | None] = (None,),
    memory_formats: Sequence[MemoryFormat] = ("contiguous",),
    dtypes: Sequence[Precision] = ("float32",),
    device: Device = "cpu",
) -> tuple[Setting, ...]:
    """Every combination once. ONNX Runtime chooses memory formats itself: with it there is only ``contiguous``."""
    found = {
        Setting(backend, batch, "contiguous" if backend == "onnxruntime" else memory_format, dtype, device): None
        for backend, batch, dtype, memory_format in itertools.product(backends, batches, dtypes, memory_formats)
    }
    return tuple(found)


def place_model(module: nn.Module, setting: Setting) -> nn.Module:
    """A copy of the module in eval mode, in the setting's dtype, memory format and place."""
    result = deepcopy(module).eval().to(device=setting.device, dtype=getattr(torch, setting.dtype))
    if setting.memory_format == "channels_last":
        result = result.to(memory_format=torch.channels_last)
    return result


def place_inputs(inputs: ExampleInputs, setting: Setting) -> Any:
    """The example inputs, repeated to the setting's batch size, in its dtype, memory format and place.

    Raises:
        ConfigError: a batch size is wanted, and it cannot be told which dimension of the inputs is the batch.
    """
    if setting.batch is not None:
        inputs = _batched(inputs, setting.batch)
    return pytree.tree_map_only(torch.Tensor, lambda tensor: _placed(tensor, setting), inputs)


def _batched(inputs: ExampleInputs, batch: int) -> Any:
    values = tuple(inputs.values()) if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    tensors = [value for value in pytree.tree_leaves(values) if isinstance(value, torch.Tensor)]
    sizes = {tensor.shape[0] if tensor.dim() else 0 for tensor in tensors}
    nested = sum(isinstance(value, torch.Tensor) for value in values) < len(tensors)
    if batch < 1 or nested or len(sizes) != 1 or 0 in sizes:
        raise ConfigError(
            f"cannot make a batch of {batch} from the example inputs: every input must be a tensor and have the batch "
            "as its first dimension; leave the batch size out, and give example inputs of the size you want"
        )
    return pytree.tree_map_only(torch.Tensor, lambda t: t[torch.arange(batch, device=t.device) % t.shape[0]], inputs)


def _placed(tensor: torch.Tensor, setting: Setting) -> torch.Tensor:
    result = tensor.detach().to(setting.device)
    if result.dtype.is_floating_point:
        result = result.to(getattr(torch, setting.dtype))
    if setting.memory_format == "channels_last" and result.dim() == 4:
        return result.contiguous(memory_format=torch.channels_last)
    return result.contiguous()
