"""Traced with one sample, and used with more: channels of all samples in one dimension, and something done along it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from tests.models.case import conv
from tests.test_one_pixel import DONE, answers, answers_agree

Step = Callable[[Tensor], Tensor]

#: How the channels of all samples come into one dimension, the second.
LINES: dict[str, Step] = {
    "reshape": lambda y: y.reshape(1, y.shape[0] * y.shape[1], *y.shape[2:]),
    "reshape_the_rest": lambda y: y.reshape(1, -1, 4, 4),
    "flatten": lambda y: y.flatten(0, 1)[None],
    "flatten_all": lambda y: y.mean((2, 3)).flatten()[None],
    "view_all": lambda y: y.mean((2, 3)).view(-1)[None],
    "pieces": lambda y: torch.cat(y.split(1), 1),
    "twice": lambda y: y.reshape(-1, 2, *y.shape[2:]).flatten(0, 1)[None],
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("line", LINES)
def test_more_samples_than_the_example_has(line: str, frontend: str) -> None:
    assert answers(LINES[line], DONE, [(batch, 4, 4) for batch in (1, 2, 3)], frontend) >= 2 * len(DONE)


class Modulated(nn.Module):
    """A convolution with weights for every sample, as one with as many groups as there are samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.style, self.last = conv(3, 8), nn.Linear(3, 8), conv(6, 2)
        self.weight = nn.Parameter(torch.randn(6, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        batch, channels, height, width = y.shape
        kernel = self.weight[None] * self.style(x.mean((2, 3))).view(batch, 1, channels, 1, 1)
        kernel = kernel * torch.rsqrt(kernel.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
        y = y.reshape(1, batch * channels, height, width)
        y = F.conv2d(y, kernel.view(batch * 6, channels, 3, 3), padding=1, groups=batch)
        return self.last(torch.relu(y.view(batch, 6, height, width)))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_convolution_with_weights_of_its_own_for_every_sample(batch: int) -> None:
    torch.manual_seed(0)
    model = Modulated().double().eval()
    program = atofx.trace(model, torch.randn(batch, 3, 4, 4, dtype=torch.float64))
    assert sorted(group.size for group in program.prunable) == [6, 8]
    inputs = [torch.randn(size, 3, 4, 4, dtype=torch.float64) for size in (batch, 1, 2, 3)]
    assert answers_agree(model, program, inputs, "modulated") >= 2 + 3  # the compact model takes every batch


class Attention(nn.Module):
    """Heads of all samples in one dimension, as older code has them."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, 4, 2).transpose(1, 2).reshape(batch * 4, length, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)) / 2**0.5, -1)
        y = torch.bmm(weights, v).view(batch, 4, length, 2).transpose(1, 2).reshape(batch, length, width)
        return self.out(y)


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_heads_of_all_samples_in_one_dimension(frontend: str) -> None:
    torch.manual_seed(0)
    model = Attention().double().eval()
    program = atofx.trace(model, torch.randn(1, 5, 8, dtype=torch.float64), frontend=frontend)
    assert [group.size for group in program.prunable] == [4]
    inputs = [torch.randn(batch, 5, 8, dtype=torch.float64) for batch in (1, 2, 3)]
    assert answers_agree(model, program, inputs, "attention") == 2 * len(inputs)


#: How the channels of all samples come into one dimension, the first.
ROWS: dict[str, Step] = {
    "flatten": lambda y: y.flatten(0, 1),
    "rows_first": lambda y: y.transpose(1, 2).flatten(0, 2),
    "columns_behind": lambda y: y.flatten(0, 2),
    "all": lambda y: y.permute(0, 2, 3, 1).reshape(-1, 1),
    "channels_first": lambda y: y.permute(1, 0, 2, 3).flatten(0, 1),
    "halves_first": lambda y: y.view(-1, 2, 4, *y.shape[2:]).transpose(0, 1).flatten(0, 2),
    "twice": lambda y: torch.cat([y, y]).flatten(0, 1),
    "among_others": lambda y: torch.cat([y, torch.ones_like(y[:, :2])], 1).flatten(0, 1),
}
DONE_ALONG_ROWS: dict[str, Step] = {
    "mean": lambda y: y.mean(0),
    "largest": lambda y: y.max(0)[0],
    "of_exponentials": lambda y: y.sigmoid().sum(0),
    "product_with_itself": lambda y: y.flatten(1).T @ y.flatten(1),
    "centred": lambda y: (y - y.mean(0)).pow(2).mean(0),
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("rows", ROWS)
def test_another_number_of_samples_where_their_channels_are_rows(rows: str, frontend: str) -> None:
    sizes = [(2, 4, 4), (1, 4, 4), (3, 4, 4), (5, 4, 4), (2, 2, 2), (3, 8, 8), (1, 6, 3)]
    answered = answers(ROWS[rows], DONE_ALONG_ROWS, sizes, frontend)
    assert answered >= (2 * 4 if rows != "halves_first" else 2) * len(DONE_ALONG_ROWS)  # every number of samples
