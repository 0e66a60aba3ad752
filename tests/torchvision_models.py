"""The torchvision models on which exactness is promised, with the smallest inputs that exercise them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torchvision
from torch import nn

SEEDS = (0, 1, 2)
KEEPS = (0.5, 0.2)
BOTH = ("eval", "train")


@dataclass(frozen=True)
class Entry:
    """One model to check.

    Attributes:
        shape: of one input, without the batch.
        options: for the model's builder.
        modes: the modes in which it is run; a model whose Python code returns something else in training mode is
            traced and run in eval mode only.
        most: the largest share of parameters that may be left when half of every group is dropped.
    """

    shape: tuple[int, ...] = (3, 64, 64)
    options: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = BOTH
    most: float | None = None


MODELS: Mapping[str, Entry] = {
    "resnet18": Entry(),
    "resnet50": Entry(most=0.271),
    "wide_resnet50_2": Entry(),
    "resnext50_32x4d": Entry(),
    "vgg16_bn": Entry((3, 32, 32)),
    "densenet121": Entry(most=0.286),
    "mobilenet_v2": Entry(most=0.349),
    "mobilenet_v3_large": Entry(),
    "efficientnet_b0": Entry(most=0.322),
    "mnasnet1_0": Entry(),
    "squeezenet1_0": Entry(),
    "shufflenet_v2_x1_0": Entry(most=0.40),
    "googlenet": Entry(options={"init_weights": False}, modes=("eval",)),
    "inception_v3": Entry((3, 96, 96), options={"init_weights": False}, modes=("eval",)),
    "regnet_y_400mf": Entry(),
    "convnext_tiny": Entry(most=0.55),
    "vit_b_16": Entry(options={"image_size": 64}, most=0.55),
    "swin_t": Entry((3, 112, 112), most=0.60),
    "fcn_resnet50": Entry(options={"weights_backbone": None}),
    "r3d_18": Entry((3, 4, 32, 32)),
}


def build(name: str) -> nn.Module:
    """The torchvision model in float64, without weights, its randomness switched off."""
    builder: Callable[..., nn.Module] = torchvision.models.get_model_builder(name)
    model = builder(weights=None, **MODELS[name].options).double()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | torchvision.ops.StochasticDepth):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def inputs(shape: tuple[int, ...], batch: int = 2) -> torch.Tensor:
    """Random inputs in float64."""
    return torch.randn(batch, *shape, dtype=torch.float64)
