"""What the promises say of a mask that leaves nothing but rounding errors: nothing, but more than these is an error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import atofx
from tests import invariants


class _Centred(nn.Module):
    """A map minus its mean: nothing but rounding errors once the one channel that sees the image is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 1)
        self.second = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return y - y.mean((2, 3), keepdim=True)


@pytest.fixture(name="subject")
def _subject() -> invariants.Subject:
    model = _Centred().double().eval()
    with torch.no_grad():
        model.first.weight[1:] = 0.0
        model.first.bias.copy_(torch.linspace(0.3, 0.8, 6))
    return invariants.trace(model, torch.rand(2, 3, 5, 5, dtype=torch.float64))


def _agree(subject: invariants.Subject, *, error: float) -> float:
    """The outcome of the promise where compact is off by ``error``."""
    (group,) = subject.program.prunable
    mask = atofx.Mask({group.name: torch.tensor([0.0, 1, 1, 1, 1, 1])})
    forms = invariants.forms_of(subject.program, mask)
    assert float(invariants.call(forms.zeroed, subject.inputs).abs().max()) < 1e-14
    forms.compact.register_forward_hook(lambda module, inputs, result: result + error)
    return invariants.agree(subject, mask, forms=forms)


def test_rounding_errors_alone_are_not_compared(subject: invariants.Subject) -> None:
    with pytest.raises(invariants.UnsuitableError, match="under the mask"):
        _agree(subject, error=1e-15)


def test_more_than_rounding_is_an_error_however_small_the_output(subject: invariants.Subject) -> None:
    with pytest.raises(invariants.InvariantError, match="compact is off"):
        _agree(subject, error=1e-12)
