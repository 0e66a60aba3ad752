"""ResNet-18 for CIFAR: the four ImageNet stages (64 to 512 channels) behind a 3 x 3 stem without pooling.

He et al., CVPR 2016, in the form the pruning papers use for CIFAR (OTO, ATO):
11.2 M parameters, 0.56 G multiply-adds at 32 x 32.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ProjectionBlock(nn.Module):
    """Two 3 x 3 convolutions; the shortcut is a 1 x 1 convolution where the shape changes (option B)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class WideStageResNet(nn.Module):
    """Four stages of 64, 128, 256 and 512 channels with ``blocks`` basic blocks each."""

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks[0], stride=1)
        self.layer2 = _stage(64, 128, blocks[1], stride=2)
        self.layer3 = _stage(128, 256, blocks[2], stride=2)
        self.layer4 = _stage(256, 512, blocks[3], stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = ProjectionBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(ProjectionBlock(channels, channels, 1) for _ in range(blocks - 1)))


def resnet18(num_classes: int = 10, in_channels: int = 3) -> WideStageResNet:
    """ResNet-18 for CIFAR: 11.2 M parameters, 0.56 G multiply-adds at 32 x 32."""
    return WideStageResNet((2, 2, 2, 2), num_classes, in_channels)
