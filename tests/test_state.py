"""What a model keeps from one call to the next: refused where a graph would forget it, let be where it is no harm."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx.errors import TraceError


class Net(nn.Module):
    """Two layers and something kept."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)
        self.kept: Any = None

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x))


class Replaced(Net):
    """A mean that runs along in a buffer, every call another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        self.mean = 0.9 * self.mean + 0.1 * y.mean(0)
        return self.b(y * self.mean)


class Changed(Replaced):
    """The same in place."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        self.mean.mul_(0.9).add_(y.mean(0), alpha=0.1)
        return self.b(y * self.mean)


class Previous(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        out = self.b(y if self.kept is None else y + self.kept)
        self.kept = y.detach()
        return out


class Counted(Net):
    def __init__(self) -> None:
        super().__init__()
        self.kept = 0

    def forward(self, x: Tensor) -> Tensor:
        self.kept += 1
        return self.b(self.features(x)) / self.kept


class Collected(Net):
    def __init__(self) -> None:
        super().__init__()
        self.kept = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept.append(self.features(x))
        return self.b(sum(self.kept))


class Shown(Net):
    """Kept for others to look at."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.features(x)
        return self.b(self.kept)


class CallsCounted(Net):
    """Counted for others to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0

    def forward(self, x: Tensor) -> Tensor:
        self.kept += 1
        return self.b(self.features(x))


class Table(Net):
    """A table that is made once for every size, in the input's dtype and place."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None or self.kept.shape[0] != x.shape[0]:
            self.kept = torch.arange(x.shape[0]).to(x)[:, None]
        return self.b(self.features(x) * self.kept)


class InLayers(nn.Module):
    """Stateful around two layers that can be pruned inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
        self.kept = 0

    def forward(self, x: Tensor) -> Tensor:
        self.kept += 1
        return self.body(x) / self.kept


def inputs() -> Tensor:
    return torch.randn(4, 3, dtype=torch.float64)


def assert_calls_agree(model: nn.Module, module: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(module(x), model(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("frontend", ["auto", "symbolic", "export"])
@pytest.mark.parametrize("kind", [Previous, Counted, Collected])
def test_what_the_next_call_computes_with_is_refused(kind: type[Net], frontend: Any) -> None:
    with pytest.raises(TraceError, match=rf"{kind.__name__} keeps 'kept' from one call to the next.*as an input"):
        atofx.trace(kind().double().eval(), inputs(), frontend=frontend)


def test_a_replaced_buffer_is_followed_by_export() -> None:
    model, x = Replaced().double().eval(), inputs()
    program = atofx.trace(model, x)
    assert program.frontend == "export"
    assert_calls_agree(copy.deepcopy(model), program.compact(program.full_mask()), x)
    with pytest.raises(TraceError, match="keeps 'mean' from one call to the next"):
        atofx.trace(model, x, frontend="symbolic")


@pytest.mark.parametrize("frontend", ["auto", "symbolic", "export"])
@pytest.mark.parametrize("kind", [Changed, Shown, CallsCounted, Table])
def test_what_is_no_harm_is_let_be(kind: type[Net], frontend: Any) -> None:
    model, x = kind().double().eval(), inputs()
    program = atofx.trace(model, x, frontend=frontend)
    assert sum(group.size for group in program.prunable) == 6
    assert_calls_agree(copy.deepcopy(model), program.compact(program.full_mask()), x)


def test_a_stateful_model_is_pruned_inside() -> None:
    model, x = InLayers().double().eval(), inputs()
    program = atofx.trace(model, x)
    assert program.frontend == "regions"
    assert [group.size for group in program.prunable] == [8]
    assert_calls_agree(copy.deepcopy(model), program.compact(program.full_mask()), x)


def test_counting_and_verifying_leave_the_state_alone(tmp_path: Path) -> None:
    model, x = Changed().eval(), torch.randn(4, 3)
    program = atofx.trace(model, x)
    before = model.mean.clone()
    program.params()
    program.flops()
    assert program.verify(program.random_mask()).ok
    atofx.save(program, program.random_mask(), tmp_path / "small.safetensors")
    assert torch.equal(model.mean, before)
    assert not model.mean.requires_grad
    copy.deepcopy(model)


def test_a_model_that_counts_its_calls_is_verified() -> None:
    class Count(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.b(self.features(x)) / self.calls

    program = atofx.trace(Count(), torch.randn(4, 3))
    assert program.verify(program.random_mask()).ok
