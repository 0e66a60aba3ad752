"""Parameters and buffers are those of the call, however the model's code gets at them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx.errors import TraceError
from benchmarks._coverage.ours import zero_in_place
from tests.invariants import TOLERANCE, relative_error
from tests.models.case import conv

Extra = Callable[[Any], Any]


class Net(nn.Module):
    def __init__(self, extra: Extra) -> None:
        super().__init__()
        self.first, self.bn, self.last = nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Linear(12, 3)
        self.register_buffer("scale", torch.rand(12) + 0.5)
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.bn(self.first(x)))) * self.extra(self)


def _collected(net: nn.Module) -> Any:
    found: list[Tensor] = []
    net.apply(lambda m: found.append(m.weight.sum()) if hasattr(m, "weight") else None)
    return sum(found)


#: Ways to a number made of parameters or buffers.
WAYS: dict[str, Extra] = {
    "parameters": lambda m: sum(p.pow(2).sum() for p in m.parameters()),
    "named_parameters": lambda m: sum(p.abs().mean() for n, p in m.named_parameters() if "weight" in n),
    "state_dict": lambda m: m.state_dict()["first.weight"].sum(),
    "dict_of_parameters": lambda m: m.first._parameters["weight"].sum(),
    "attributes": lambda m: vars(m.first)["_parameters"]["weight"].sum(),
    "next": lambda m: next(m.parameters()).mean(),
    "vector": lambda m: nn.utils.parameters_to_vector(m.first.parameters()).norm(),
    "stacked": lambda m: torch.stack([p.norm() for p in m.first.parameters()]).max(),
    "buffers": lambda m: sum(b.sum() for b in m.buffers() if b.is_floating_point()),
    "operators": lambda m: (2 - next(m.parameters()) * 3 @ next(m.parameters()).T)[0, 1:].sum() / 7,
    "of_another_type": lambda m: next(m.parameters()).type(torch.float64).sum(),
    "data": lambda m: next(m.parameters()).data.sum(),
    "orthogonal": lambda m: sum((p @ p.T - torch.eye(len(p))).pow(2).sum() for p in m.parameters() if p.dim() == 2),
    "applied": _collected,
    "by_name": lambda m: m.get_parameter("first.weight").sum(),
}
#: Products of rows with each other, which hold all of them together.
WHOLE = {"operators", "orthogonal"}


def _learned(net: nn.Module) -> None:
    """Other values, as after training; in place, as optimizers do it."""
    with torch.no_grad():
        for tensor in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
            tensor.mul_(1.5)


@pytest.mark.parametrize("frontend", ["symbolic", "export", "auto"])
@pytest.mark.parametrize("way", WAYS)
def test_numbers_made_of_own_tensors_are_those_of_the_call(way: str, frontend: str) -> None:
    torch.manual_seed(0)
    model, x = Net(WAYS[way]).double().eval(), torch.randn(4, 6, dtype=torch.float64)
    try:
        program = atofx.trace(model, x, frontend=frontend)
    except TraceError:
        assert (way, frontend) in {("by_name", "symbolic"), ("data", "export")}
        return
    assert bool(program.prunable) == (way not in WHOLE)
    _learned(model)
    assert relative_error([program.module(x)], [model(x)]) <= TOLERANCE
    mask = program.random_mask(keep=0.5)
    compact, gated = program.compact(mask), copy.deepcopy(program.gated(mask))
    zero_in_place(program, mask)
    for module in (compact, gated):
        assert relative_error([module(x)], [model(x)]) <= TOLERANCE


#: Python numbers made of values that training changes: no graph has them.
NUMBERS: dict[str, Extra] = {
    "float_of_parameters": lambda m: sum(float(p.sum()) for p in m.parameters()),
    "item_of_a_weight": lambda m: m.first.weight.abs().max().item(),
    "float_of_a_statistic": lambda m: float(m.bn.running_mean.mean()),
    "list_of_a_statistic": lambda m: sum(m.bn.running_var.tolist()),
    "float_of_a_buffer": lambda m: float(m.scale.sum()),
    "branch_on_a_buffer": lambda m: 2 if m.scale[0] > 0 else 3,
    "branch_on_a_parameter": lambda m: 2 if next(m.parameters()).sum() > 0 else 3,
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("way", NUMBERS)
def test_numbers_of_what_training_changes_are_refused(way: str, frontend: str) -> None:
    with pytest.raises(TraceError):
        atofx.trace(Net(NUMBERS[way]).eval(), torch.randn(4, 6), frontend=frontend)


class Momentum(nn.Module):
    """A second encoder follows the first, in every call."""

    def __init__(self, step: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.query, self.key = (nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4)) for _ in range(2))
        self.step = step

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            for q, k in zip(self.query.parameters(), self.key.parameters(), strict=True):
                self.step(q, k)
        return self.query(x), self.key(x)


def _assign(q: Tensor, k: Tensor) -> None:
    k.data = k.data * 0.9 + q.data * 0.1


def _in_place(q: Tensor, k: Tensor) -> None:
    k.mul_(0.9).add_(q, alpha=0.1)


@pytest.mark.parametrize("step", [_assign, _in_place])
def test_tracing_runs_no_step_of_a_momentum_encoder(step: Callable[[Tensor, Tensor], None]) -> None:
    torch.manual_seed(0)
    model, x = Momentum(step).double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    program = atofx.trace(model, x)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    twin = copy.deepcopy(model)
    expected, actual = twin(x), program.module(x)
    assert relative_error(actual, expected) <= TOLERANCE
    after = dict(model.named_parameters())
    assert all(torch.allclose(p, after[name], rtol=1e-12, atol=0) for name, p in twin.named_parameters())
    assert not torch.equal(after["key.0.weight"], before["key.0.weight"])
