"""The weight of a layer that something beside the layer reads: its kernel stays whole, its channels need not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from tests.models.case import conv

#: One number for each output channel, or for all of them, from a weight.
READ: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda w: w.abs().mean((1, 2, 3)),
    "norm": lambda w: torch.rsqrt(w.pow(2).sum((1, 2, 3)) + 1),
    "mean_of_rows": lambda w: w.mean(2).amax((1, 2)),
    "middle": lambda w: w[:, :, 1, 1].sum(1),
    "column": lambda w: w[..., 0].abs().sum((1, 2)),
    "flattened": lambda w: w.flatten(1).std(1),
    "of_all": lambda w: w.abs().mean().expand(8),
    "standardised_rows": lambda w: (w / w.sum(3, keepdim=True).abs().add(1)).sum((1, 2, 3)),
}
LAYERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "module": lambda y, w: y,
    "function": lambda y, w: F.conv2d(y, w, padding=1),
    "transposed": lambda y, w: F.conv_transpose2d(y, w.transpose(0, 1), padding=1),
}


class ReadTwice(nn.Module):
    def __init__(self, layer: str, read: str) -> None:
        super().__init__()
        self.first, self.second, self.last = conv(3, 8), conv(8, 8), conv(8, 2)
        self.layer, self.read = layer, READ[read]

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        weight = self.second.weight
        y = self.second(y) if self.layer == "module" else LAYERS[self.layer](y, weight)
        return self.last(torch.relu(y * self.read(weight).reshape(1, -1, 1, 1)))


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("read", READ)
def test_kernels_stay_whole(read: str, layer: str, frontend: str) -> None:
    torch.manual_seed(0)
    model = ReadTwice(layer, read).double().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64), frontend=frontend)
    assert program.prunable
    assert all(member.dim < 2 for group in program.prunable for member in group.members)
    assert all(group.size == 8 for group in program.prunable)
    for seed in range(3):
        report = program.verify(program.random_mask(keep=0.5, seed=seed))
        assert report.ok, str(report)
