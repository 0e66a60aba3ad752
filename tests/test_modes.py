"""The mode a model is traced in is not baked into what comes out of tracing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import convnext_tiny, efficientnet_b0
from torchvision.ops import StochasticDepth

import atofx
from tests import invariants


class _WithDropout(nn.Module):
    """A net whose forward pass is random in training mode, by a module in the middle."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.fc1, self.middle, self.fc2 = nn.Linear(6, 8), middle, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.middle(self.fc1(x)))


class _Functional(nn.Module):
    """Functional dropout reads the module's own mode."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=self.training)


class _Attention(nn.Module):
    """Self-attention whose weights are dropped at random."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dropout": (lambda: _WithDropout(nn.Dropout(0.5)), (4, 5, 6)),
    "functional_dropout": (lambda: _WithDropout(_Functional()), (4, 5, 6)),
    "stochastic_depth": (lambda: _WithDropout(StochasticDepth(0.5, "row")), (4, 5, 6)),
    "attention": (lambda: _WithDropout(_Attention()), (4, 5, 6)),
    "encoder_layer": (
        lambda: _WithDropout(nn.TransformerEncoderLayer(8, 2, 8, dropout=0.5, batch_first=True)),
        (4, 5, 6),
    ),
    "efficientnet_b0": (lambda: efficientnet_b0(weights=None), (2, 3, 32, 32)),
    "convnext_tiny": (lambda: convnext_tiny(weights=None), (2, 3, 32, 32)),
}


def _traced(name: str, training: bool) -> tuple[nn.Module, list[nn.Module], Tensor]:
    build, shape = NETS[name]
    model = build().double()
    invariants.randomise(model, 0)
    x = torch.randn(shape, dtype=torch.float64)
    program = atofx.trace(model.train(training), x)
    full = program.full_mask()
    return model, [program.module, program.compact(full), program.zeroed(full), program.gated()], x


@pytest.mark.parametrize("name", NETS)
def test_traced_in_training_mode_evaluates(name: str) -> None:
    """Traced while training, put in eval mode afterwards: nothing is random and nothing is dropped."""
    model, modules, x = _traced(name, training=True)
    expected = invariants.call(model.eval(), x)
    for module in modules:
        torch.testing.assert_close(invariants.call(module.eval(), x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_traced_in_eval_mode_trains(name: str) -> None:
    """Traced in eval mode, put in training mode afterwards: dropout drops."""
    model, modules, x = _traced(name, training=False)
    for module in (model, *modules):
        module.train()
        torch.manual_seed(0)
        first = invariants.call(module, x)
        torch.manual_seed(0)
        again = invariants.call(module, x)
        torch.manual_seed(1)
        other = invariants.call(module, x)
        torch.testing.assert_close(first, again, rtol=1e-9, atol=1e-9)
        assert invariants.relative_error([first], [other]) > 1e-6
