"""CIFAR ResNets in which every convolution has a width of its own and every stage a depth, as a search finds them.

Source: the networks of Dong and Yang, *Network Pruning via Transformable Architecture Search*, NeurIPS 2019, as their
published configuration files describe them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SearchedBlock(nn.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1, each with a norm, and a shortcut.

    The shortcut is the identity where neither stride nor width changes; else a 1 x 1 convolution, behind an average of
    2 x 2 pixels where the stride is 2, and with a norm where it is 1 and the block has two convolutions.

    Args:
        in_channels: of the input.
        widths: output channels of the two or three convolutions.
        stride: of the first 3 x 3 convolution.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], stride: int) -> None:
        super().__init__()
        kernels = (3, 3) if len(widths) == 2 else (1, 3, 1)
        strided = kernels.index(3)
        inputs = (in_channels, *widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(before, width, kernel, stride if i == strided else 1, padding=kernel // 2, bias=False)
            for i, (before, width, kernel) in enumerate(zip(inputs, widths, kernels, strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.shortcut = _shortcut(in_channels, widths[-1], stride, norm=len(widths) == 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, widths[-1], H / stride, W / stride)."""
        out = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if i < len(self.convs) - 1:
                out = F.relu(out, inplace=True)
        return F.relu(out + self.shortcut(x), inplace=True)


def _shortcut(in_channels: int, width: int, stride: int, *, norm: bool) -> nn.Module:
    conv = nn.Conv2d(in_channels, width, 1, bias=False)
    if stride == 2:
        return nn.Sequential(nn.AvgPool2d(2), conv)
    if in_channels == width:
        return nn.Identity()
    return nn.Sequential(conv, nn.BatchNorm2d(width)) if norm else conv


class SearchedResNet(nn.Module):
    """A stem, three stages of blocks, and a classifier.

    Args:
        stem: output channels of the first convolution.
        stages: for each of the three stages, for each block that is there, the widths of its convolutions: two (basic
            blocks) or three (bottlenecks).
        num_classes: of the classifier.
        in_channels: of the images.
    """

    def __init__(
        self, stem: int, stages: Sequence[Sequence[Sequence[int]]], num_classes: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        width, built = stem, []
        for number, blocks in enumerate(stages):
            stage = []
            for i, widths in enumerate(blocks):
                stage.append(SearchedBlock(width, widths, stride=2 if number and not i else 1))
                width = widths[-1]
            built.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3 = built
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out
