"""Networks for CIFAR-sized images that the papers' tables need and torchvision lacks.

Plain ``torch.nn`` code without any knowledge of pruning: every model takes ``num_classes`` and ``in_channels`` and is
symbolically traceable. Images of 32 x 32 are what they were published for; the ResNets and MobileNetV2 end in a global
average pooling and take any size from 8 x 8 on, VGG16 needs at least 32 x 32.
"""

from __future__ import annotations

from atofx.zoo.mobilenetv2 import MobileNetV2, mobilenetv2
from atofx.zoo.registry import build, names
from atofx.zoo.resnet import CifarResNet, resnet20, resnet32, resnet56, resnet110
from atofx.zoo.searched_resnet import SearchedResNet
from atofx.zoo.vgg import VGG, vgg16_bn
from atofx.zoo.wide_resnet import WideStageResNet, resnet18

__all__ = [
    "VGG",
    "CifarResNet",
    "MobileNetV2",
    "SearchedResNet",
    "WideStageResNet",
    "build",
    "mobilenetv2",
    "names",
    "resnet110",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet56",
    "vgg16_bn",
]
