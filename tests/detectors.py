"""Torchvision's detectors, small images, random weights that give finite boxes to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

_TWO_STAGE = {
    "min_size": 64,
    "max_size": 96,
    "rpn_post_nms_top_n_test": 20,
    "rpn_post_nms_top_n_train": 20,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 8,
}
_ONE_STAGE = {"min_size": 64, "max_size": 96, "score_thresh": 0.0, "detections_per_img": 20}
_FIXED_SIZE = {"score_thresh": 0.0, "detections_per_img": 20}

#: Name -> options.
DETECTORS: Mapping[str, Mapping[str, Any]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": _TWO_STAGE,
    "fasterrcnn_mobilenet_v3_large_fpn": _TWO_STAGE,
    "fasterrcnn_resnet50_fpn": _TWO_STAGE,
    "fasterrcnn_resnet50_fpn_v2": _TWO_STAGE,
    "maskrcnn_resnet50_fpn": _TWO_STAGE,
    "maskrcnn_resnet50_fpn_v2": _TWO_STAGE,
    "keypointrcnn_resnet50_fpn": _TWO_STAGE,
    "retinanet_resnet50_fpn": _ONE_STAGE,
    "retinanet_resnet50_fpn_v2": _ONE_STAGE,
    "fcos_resnet50_fpn": _ONE_STAGE,
    "ssd300_vgg16": _FIXED_SIZE,
    "ssdlite320_mobilenet_v3_large": _FIXED_SIZE,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """A detector in eval mode with its own initial weights, random biases and random norm statistics."""
    torch.manual_seed(seed)
    factory: Callable[..., nn.Module] = getattr(torchvision.models.detection, name)
    model = factory(weights=None, weights_backbone=None, **DETECTORS[name]).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(getattr(module, "bias", None), Tensor):
                module.bias.uniform_(-0.2, 0.2)
            if isinstance(getattr(module, "running_var", None), Tensor):
                module.weight.uniform_(0.5, 1.5)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2)
    return model


def images() -> tuple[list[Tensor]]:
    """Two images of different sizes."""
    generator = torch.Generator().manual_seed(0)
    return ([torch.rand(3, 64, 64, generator=generator), torch.rand(3, 64, 96, generator=generator)],)


def targets() -> list[dict[str, Tensor]]:
    """What the two images show: for train mode, of every kind of detector."""
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]])
    keypoints = torch.tensor([[[10.0, 10.0, 1.0]] * 17] * 2)
    labels = torch.ones(2, dtype=torch.int64)
    return [
        {
            "boxes": boxes,
            "labels": labels,
            "masks": torch.ones(2, 64, width, dtype=torch.uint8),
            "keypoints": keypoints,
        }
        for width in (64, 96)
    ]
