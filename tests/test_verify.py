"""What verify counts as equal."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx.errors import TraceError
from atofx.passes.verify import largest_error

NAN = float("nan")


def test_numbers_that_are_none_in_both_are_equal_beside_others() -> None:
    assert largest_error(torch.tensor([NAN, 2.0]), torch.tensor([NAN, 2.0])) == 0
    assert largest_error(torch.tensor([1.0, 2.0]), torch.tensor([NAN, 2.0])) == float("inf")


def test_nothing_but_not_a_number_proves_nothing() -> None:
    assert largest_error(torch.tensor([NAN, NAN]), torch.tensor([NAN, NAN])) == float("inf")


class Undefined(nn.Module):
    """Always the root of a negative number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).abs().neg().sub(1).sqrt()


def test_a_model_without_results_is_not_verified() -> None:
    program = atofx.trace(Undefined(), torch.randn(2, 4))
    assert not program.verify(program.random_mask(0.5)).ok


def test_an_example_that_does_not_fit_names_no_line_outside_the_model() -> None:
    with pytest.raises(TraceError) as refused:
        atofx.trace(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(2, 5))
    assert "test_verify.py" not in str(refused.value)


def test_results_in_a_dataclass() -> None:
    @dataclass
    class Out:
        logits: Tensor
        features: Tensor

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Out:
            y = torch.relu(self.a(x))
            return Out(self.b(y), y.mean(1))

    program = atofx.trace(Net(), torch.randn(4, 3))
    mask = program.random_mask()
    assert program.verify(mask).ok
    assert largest_error(Out(torch.ones(2), torch.zeros(2)), Out(torch.ones(2), torch.ones(2))) == 1
