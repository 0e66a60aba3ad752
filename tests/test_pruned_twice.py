"""A compact model is a model: it is traced and pruned again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import atofx


class SelectsTwice(nn.Module):
    """Two selections by index one after the other; the second net's nodes go by other numbers than the first's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 1), nn.Conv2d(19, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        z = y[:, torch.tensor([9, 5, 8, 9, 7])]
        return self.conv2(torch.cat([z.index_select(1, torch.tensor([2, 2, 1, 0, 3, 4, 1])), y], 1))


def test_indices_of_the_second_cut_do_not_take_the_names_of_the_first() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    first = atofx.trace(SelectsTwice().double().eval(), x)
    for seed in range(4):
        small = first.compact(first.random_mask(keep=0.7, seed=seed))
        again = atofx.trace(small, x)
        for other in range(3):
            assert again.verify(again.random_mask(keep=0.5, seed=other)).ok
