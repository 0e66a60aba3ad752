"""Models that return a loss, as they do in training: every reduction is the model's own, in both front ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import TraceError
from atofx.ops import aten
from atofx.passes.trace import Frontend
from atofx.testing import relative_error

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "mse_sum": lambda y, x: F.mse_loss(y, x, reduction="sum"),
    "mse_none": lambda y, x: F.mse_loss(y, x, reduction="none"),
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "smooth_l1": F.smooth_l1_loss,
    "soft_margin": lambda y, x: F.soft_margin_loss(y, torch.sign(x)),
    "bce": lambda y, x: F.binary_cross_entropy(y.sigmoid(), x.sigmoid()),
    "bce_with_logits": lambda y, x: F.binary_cross_entropy_with_logits(y, x.sigmoid()),
    "kl_div": lambda y, x: F.kl_div(y.log_softmax(1), x.softmax(1), reduction="batchmean"),
    "nll": lambda y, x: F.nll_loss(y.log_softmax(1), x.argmax(1)),
    "cross_entropy": lambda y, x: F.cross_entropy(y, x.argmax(1)),
    "cross_entropy_smooth": lambda y, x: F.cross_entropy(y, x.argmax(1), label_smoothing=0.1),
    "hinge_embedding": lambda y, x: F.hinge_embedding_loss(y, torch.sign(x)),
    "cosine_embedding": lambda y, x: F.cosine_embedding_loss(y, x, torch.ones(len(x), dtype=x.dtype)),
    "triplet_margin": lambda y, x: F.triplet_margin_loss(y, x, x.flip(0)),
    "margin_ranking": lambda y, x: F.margin_ranking_loss(y, x, torch.ones_like(x)),
    "multi_margin": lambda y, x: F.multi_margin_loss(y, x.argmax(1)),
    "multilabel_margin": lambda y, x: F.multilabel_margin_loss(y, torch.zeros_like(x).long()),
}


class WithLoss(nn.Module):
    """A small network and how far its result is from its input."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.wide, self.out, self.loss = nn.Linear(4, 6), nn.Linear(6, 4), loss

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.out(F.relu(self.wide(x)))
        return self.loss(y, x), y


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_the_models_own(loss: str, frontend: Frontend) -> None:
    torch.manual_seed(0)
    model, x = WithLoss(LOSSES[loss]).double().eval(), torch.randn(5, 4, dtype=torch.float64)
    program = atofx.trace(model, x, frontend=frontend)
    assert [group.size for group in program.prunable] == [6]
    with torch.no_grad():
        whole, own = program.compact(program.full_mask())(x), model(x)
    assert whole[0].shape == own[0].shape
    assert relative_error(whole, own) <= 1e-9
    assert program.verify(program.random_mask()).ok


def test_another_result_than_the_exported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aten, "_reduction", lambda overload: None)  # as torch's functions read what is left out
    with pytest.raises(TraceError, match=r"mse_loss.* gives \(5, 4\) .* where torch.export recorded \(\) "):
        atofx.trace(WithLoss(F.mse_loss), torch.randn(5, 4), frontend="export")
