"""New random weights for any module, as if it had just been made."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["layers", "he"]
"""``"layers"``: every layer's own ``reset_parameters``. ``"he"``: the weights of convolutions are then drawn from a
normal distribution of variance 2 / (kernel elements · output channels) (He et al., ICCV 2015, section 2.2, backward
case)."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def renew_(module: nn.Module, *, seed: int, init: Init = "layers") -> None:
    """Draw every parameter anew, in place, and reset running statistics.

    Layers with a ``reset_parameters`` method do it themselves. A parameter of no such layer (a class token, a scale of
    a residual branch) is drawn from a normal distribution with the mean and the standard deviation it has now; one
    that is constant now stays as it is. Buffers of no such layer stay as they are. The global random state of the CPU
    and of all GPUs is given back.

    Args:
        module: any module.
        seed: of the draws.
        init: the rule for convolutions.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        owned: set[int] = set()
        for layer in module.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset) and not _holds_nothing(layer):
                reset()
                owned.update(id(tensor) for tensor in layer.parameters())
            if init == "he" and isinstance(layer, _CONVOLUTIONS):
                layer.weight.normal_(0, _he(layer))
        for parameter in module.parameters():
            if id(parameter) not in owned and parameter.is_floating_point():
                _redraw(parameter)


def _holds_nothing(layer: nn.Module) -> bool:
    """Whether a layer lacks parameters and statistics, such as a batch norm without either."""
    return all(tensor is None for tensor in (*layer._parameters.values(), *layer._buffers.values()))


def _he(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> float:
    return math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels))


def _redraw(parameter: Tensor) -> None:
    if parameter.numel() > 1 and bool((parameter != parameter.flatten()[0]).any()):
        parameter.normal_(float(parameter.mean()), float(parameter.std()))
