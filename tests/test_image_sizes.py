"""Later images of another size: what is made of a model computes the same as the model there, or refuses them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import InputSizeError
from tests.models.case import conv


class Lines(nn.Module):
    """The rows of all channels in one line, and something done along it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = conv(3, 8), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(x).flatten(1, 2)).mean(2))


def rows_first(y: Tensor) -> Tensor:
    """The same line, row by row instead of channel by channel."""
    return y.unflatten(1, (8, -1)).transpose(1, 2).flatten(1, 2)


def with_means(y: Tensor) -> Tensor:
    """The line and the mean of every channel behind it."""
    return torch.cat([y, y.unflatten(1, (8, -1)).mean(2)], 1)


def total(y: Tensor) -> Tensor:
    return y.sum(1, keepdim=True)


def ramp(y: Tensor) -> Tensor:
    return torch.arange(y.shape[1])[:, None] / 10


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda y: y.mean(1, keepdim=True),
    "deviation": lambda y: y.std(1, keepdim=True),
    "length": lambda y: total(y / y.shape[1]),
    "length_by_size": lambda y: total(y / y.size(1)),
    "power_of_length": lambda y: total(y * y.shape[1] ** -0.5),
    "number_of_elements": lambda y: total(y / (y.numel() // y.size(0))),
    "number_of_elements_of_one": lambda y: total(y / y[0].numel()),
    "channels_as_a_dimension": lambda y: total(
        (y.view(y.shape[0], 8, -1, y.shape[2]) * torch.arange(8)[:, None, None]).sum(2)
    ),
}
MAY_REFUSE: dict[str, Callable[[Tensor], Tensor]] = {
    "slice_of_rows": lambda y: total(rows_first(y)[:, 8:]),
    "rolled_rows": lambda y: total(rows_first(y).roll(8, 1) * ramp(y)),
    "ramp": lambda y: total(y * ramp(y)),
    "attention": lambda y: F.scaled_dot_product_attention(*[y.transpose(1, 2)] * 3).mean((1, 2)).view(-1, 1, 1),
    "padded_mean": lambda y: F.pad(y, (0, 0, 0, 3)).mean(1, keepdim=True),
    "joined_mean": lambda y: with_means(y).mean(1, keepdim=True),
    "joined_length": lambda y: total(with_means(y) / with_means(y).shape[1]),
    "joined_number_of_elements": lambda y: total(with_means(y) / with_means(y)[0].numel()),
    "repeated": lambda y: y.repeat(1, 2, 1).mean(1, keepdim=True),
}


@pytest.mark.parametrize("size", [4, 8, 12])
@pytest.mark.parametrize("name", [*EXACT, *MAY_REFUSE])
def test_lines_of_another_length(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = Lines((EXACT | MAY_REFUSE)[name]).double().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    assert [group.size for group in program.prunable] == [8]
    mask = program.random_mask(keep=0.5, seed=0)
    gated = program.gated()
    gated.set_mask(mask)
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    expected = program.zeroed(mask)(x)
    for module in (program.compact(mask), gated):
        try:
            found = module(x)
        except InputSizeError:
            assert name in MAY_REFUSE
        else:
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_compact_model_of_one_size_is_compacted_again() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    compact = atofx.trace(Lines(MAY_REFUSE["padded_mean"]).double().eval(), x)
    once = compact.compact(compact.random_mask(keep=0.75, seed=0))
    program = atofx.trace(once, x)
    mask = program.random_mask(keep=0.5, seed=1)
    assert program.verify(mask).ok
    with pytest.raises(InputSizeError, match=r"holds for a tensor of shape \(any, "):
        program.compact(mask)(torch.randn(2, 3, 8, 8, dtype=torch.float64))
