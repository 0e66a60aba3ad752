"""Factories that the tests name on the command line as `tests.cli.nets:NAME`."""

import torch
from torch import nn


def small(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 5))


def with_inputs() -> tuple[nn.Module, torch.Tensor]:
    return small(), torch.randn(1, 3, 8, 8)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.left(a) + self.right(b)))


def not_a_model() -> dict:
    return {}


def broken() -> nn.Module:
    raise RuntimeError("a bug of the user's own")


instance = small()


class FixedBatch(nn.Module):
    """Its code names the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(4, 6), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.inner(x)).view(1, 12))


def fixed_batch() -> tuple[nn.Module, torch.Tensor]:
    return FixedBatch(), torch.randn(2, 4)


def double() -> nn.Module:
    """Weights in float64."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3)).double()
