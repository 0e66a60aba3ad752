"""Bytes of operations whose operands and results can be counted by hand."""

import torch
from torch import Tensor, nn

from atofx.bench.eager import forward
from atofx.bench.traffic import traffic

KB = 256 * 4  # bytes of the tensors below


class Chain(nn.Module):
    """Three results, of which two are alive at once; views cost nothing."""

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(x)
        b = torch.sigmoid(a.view(16, 16).transpose(0, 1))
        del a
        return torch.tanh(b)


class Keeps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(x)
        b = torch.sigmoid(a)
        c = torch.tanh(b)
        return a + b + c


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).sigmoid_().tanh_()


def test_moved_and_peak_of_a_chain():
    found = traffic(forward(Chain(), torch.randn(256)))
    assert found.moved == 3 * 2 * KB
    assert found.peak == 2 * KB


def test_what_is_kept_counts_until_it_is_dropped():
    found = traffic(forward(Keeps(), torch.randn(256)))
    assert found.moved == (3 * 2 + 2 * 3) * KB
    assert found.peak == 5 * KB  # a, b, c, a + b and the sum


def test_changes_in_place_move_and_hold_nothing_more():
    found = traffic(forward(InPlace(), torch.randn(256)))
    assert found.peak == KB
    assert found.moved == 3 * 2 * KB


def test_weights_are_read():
    model, x = nn.Linear(32, 8, bias=False), torch.randn(4, 32)
    found = traffic(forward(model, x))
    assert found.moved == 4 * (4 * 32 + 32 * 8 + 4 * 8)
    assert found.peak == 4 * 4 * 8
