"""CIFAR ResNets of depth 6n + 2 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2).

Three stages of n basic blocks with 16, 32 and 64 channels. Shortcuts between shapes are parameter-free (option A):
every second pixel, and zeros for the new channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class OptionA(nn.Module):
    """Parameter-free shortcut: (N, C, H, W) -> (N, C + new, H / stride, W / stride), zeros around the old channels."""

    def __init__(self, new: int, stride: int) -> None:
        super().__init__()
        self.before = new // 2
        self.after = new - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """The strided, zero-padded input."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and an identity or option-A shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same = stride == 1 and in_channels == channels
        self.shortcut: nn.Module = nn.Identity() if same else OptionA(channels - in_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class CifarResNet(nn.Module):
    """The 6n + 2 network; ``depth`` counts the convolutions and the classifier.

    Raises:
        ValueError: ``depth`` is not 6n + 2.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"the depth of a CIFAR ResNet is 6n + 2 (8, 14, 20, …), not {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def resnet20(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-20: 0.27 M parameters, 41 M multiply-adds at 32 x 32."""
    return CifarResNet(20, num_classes, in_channels)


def resnet32(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-32: 0.46 M parameters, 69 M multiply-adds at 32 x 32."""
    return CifarResNet(32, num_classes, in_channels)


def resnet56(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-56: 0.85 M parameters, 126 M multiply-adds at 32 x 32."""
    return CifarResNet(56, num_classes, in_channels)


def resnet110(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-110: 1.7 M parameters, 254 M multiply-adds at 32 x 32."""
    return CifarResNet(110, num_classes, in_channels)
