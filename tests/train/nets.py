"""Factories that tests name as ``tests.train.nets:…``."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two convolutions, dropout, a classifier: trains in seconds and draws from the global generator."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return out


class Deterministic(Small):
    """Without dropout."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__(num_classes, in_channels)
        self.dropout = nn.Dropout(0.0)


def three_classes() -> nn.Module:
    return Small(num_classes=3)


def three_channels(num_classes: int = 10) -> nn.Module:
    return Small(num_classes, in_channels=3)


def not_a_module(num_classes: int) -> int:
    return num_classes
