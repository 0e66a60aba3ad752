"""Later inputs of exported graphs: other sizes where the model allows them, one clear error where they are numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import InputSizeError
from tests.models.case import conv


class PaddedBySize(nn.Module):
    """A size of the input is the number it is padded with: torch.export makes a constant of it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.pad(self.conv1(x).relu(), (1, 1), value=x.shape[self.dim] - 6)).mean((2, 3))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_size_that_became_a_number_is_refused(batch: int) -> None:
    model = PaddedBySize(2).eval()
    small = atofx.trace(model, torch.randn(batch, 3, 8, 8), frontend="export")
    compact = small.compact(small.full_mask())
    wider = torch.randn(5, 3, 8, 16)
    torch.testing.assert_close(compact(wider), model(wider))
    with pytest.raises(InputSizeError, match=r"shape \(any, 3, 8, any\) here, not \(5, 3, 16, 16\).*of the new size"):
        compact(torch.randn(5, 3, 16, 16))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_became_a_number_is_refused(batch: int) -> None:
    model = PaddedBySize(0).eval()
    example = torch.randn(batch, 3, 8, 8)
    program = atofx.trace(model, example, frontend="export")
    compact = program.compact(program.full_mask())
    torch.testing.assert_close(compact(example), model(example))
    with pytest.raises(InputSizeError, match=rf"shape \({batch}, 3, "):
        compact(torch.randn(3, 3, 8, 8))


def test_the_number_of_channels_is_checked_before_the_first_layer() -> None:
    program = atofx.trace(nn.Sequential(conv(3, 4), conv(4, 2)), torch.randn(2, 3, 8, 8), frontend="export")
    mask = program.random_mask(0.5)
    assert program.verify(mask).ok
    assert program.compact(mask)(torch.randn(1, 3, 12, 9)).shape[0] == 1
    with pytest.raises(InputSizeError, match="graph holds for"):
        program.compact(mask)(torch.randn(1, 4, 8, 8))


class WritesRowsBySize(nn.Module):
    """Rows up to a number made of the image's size become zero, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x).relu()
        y[:, :, : y.shape[2] // 2] = 0
        return self.conv2(y).mean((2, 3))


def test_a_written_slice_may_end_at_a_size() -> None:
    model = WritesRowsBySize().eval()
    program = atofx.trace(model, torch.randn(2, 3, 8, 8), frontend="export")
    assert [group.size for group in program.prunable] == [8]
    assert program.verify(program.random_mask(0.5, seed=1)).ok
    wider = torch.randn(3, 3, 12, 10)
    torch.testing.assert_close(program.compact(program.full_mask())(wider), model(wider))
