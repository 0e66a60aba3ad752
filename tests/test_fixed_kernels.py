"""Depthwise kernels that are fixed, and tensors of one number: zero stays zero; tokens may be more or fewer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import atofx
from benchmarks._coverage.ours import zero_in_place
from tests.invariants import TOLERANCE, relative_error
from tests.models.case import conv

Inner = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, inner: Inner) -> None:
        super().__init__()
        self.first, self.last, self.inner = conv(3, 8), conv(8, 4), inner
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("row", row)
        self.register_buffer("kernel", (row[:, None] * row)[None, None] / 16)
        self.register_buffer("chosen", torch.rand(8) > 0.4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self, self.first(x)))


def _blur(weight: Callable[[Any, int], Tensor]) -> Inner:
    return lambda m, h: F.conv2d(h, weight(m, h.shape[1]), padding=1, groups=h.shape[1])


def _written(m: Any, h: Tensor) -> Tensor:
    added = h.new_zeros(())
    added.add_(2)
    return h + added


def _written_through_a_view(m: Any, h: Tensor) -> Tensor:
    added = h.new_zeros(1)
    added.view(1, 1).add_(2)
    return h + added


def _written_in_part(m: Any, h: Tensor) -> Tensor:
    added = h.new_zeros(8, 1, 1)
    added[0] = 2
    return h + added


def _summed(m: Any, h: Tensor) -> Tensor:
    total = torch.zeros(())
    for _ in range(3):
        total = total + h
    return total


PRUNABLE: dict[str, Inner] = {
    "expanded": _blur(lambda m, n: m.kernel.expand(n, 1, 3, 3)),
    "expanded_as_it_is": _blur(lambda m, n: m.kernel.expand(n, -1, -1, -1)),
    "multiplied": _blur(lambda m, n: (m.row[:, None] * m.row / 16).expand(n, 1, 3, 3)),
    "transposed": lambda m, h: F.conv_transpose2d(h, m.kernel.expand(8, 1, 3, 3), padding=1, groups=h.shape[1]),
    "where": lambda m, h: torch.where(m.chosen.view(-1, 1, 1), h, torch.zeros(())),
    "where_of_its_kind": lambda m, h: torch.where(h > 0.1, h, h.new_zeros(())),
    "added": lambda m, h: h + torch.zeros(1),
    "maximum": lambda m, h: torch.maximum(h, torch.zeros(())),
    "threshold": lambda m, h: torch.relu(h - torch.ones(())),
    "divided": lambda m, h: h / torch.full((8, 1, 1), 3.0),
    "clamped": lambda m, h: torch.clamp(h, torch.zeros(()), torch.ones(())),
    "summed": _summed,
}
WHOLE: dict[str, Inner] = {
    "repeated": _blur(lambda m, n: m.kernel.repeat(n, 1, 1, 1)),
    "written": _written,
    "written_through_a_view": _written_through_a_view,
    "written_in_part": _written_in_part,
    "filled_anew": lambda m, h: h + h.new_zeros(()).fill_(2.0),
    "of_a_size": lambda m, h: h + torch.full((), float(h.shape[2])),
    "ones": lambda m, h: h - torch.ones(8, 1, 1),
    "clamped_above": lambda m, h: torch.clamp(h, torch.full((), 0.5), torch.ones(())),
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("name", [*PRUNABLE, *WHOLE])
def test_zero_stays_zero_and_nothing_else_is_taken_for_it(name: str, frontend: str) -> None:
    torch.manual_seed(0)
    model, x = Net((PRUNABLE | WHOLE)[name]).double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    program = atofx.trace(model, x, frontend=frontend)
    assert [group.size for group in program.prunable] == ([8] if name in PRUNABLE else [])
    assert relative_error([program.module(x)], [model(x)]) == 0
    mask = program.random_mask(keep=0.5)
    compact, gated = program.compact(mask), copy.deepcopy(program.gated(mask))
    zero_in_place(program, mask)
    for module in (compact, gated):
        assert relative_error([module(x)], [model(x)]) <= TOLERANCE


class Tokens(nn.Module):
    """Positions are put into one dimension with the batch, as for experts or the loss of a language model."""

    def __init__(self, inner: Inner) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self, torch.relu(self.first(x))))


TOKENS: dict[str, Inner] = {
    "there_and_back": lambda m, h: m.second(h.reshape(-1, 12)).view(h.shape[0], h.shape[1], -1),
    "beside": lambda m, h: (m.second(h.reshape(-1, 12)) + h.reshape(-1, 12)).view(h.shape[0], h.shape[1], 12),
    "by_its_shape": lambda m, h: m.second(h.view(-1, h.shape[-1])).view(h.shape),
    "flattened": lambda m, h: m.second(h.flatten(0, 1)).unflatten(0, (h.shape[0], h.shape[1])),
    "product": lambda m, h: m.second(h.reshape(h.shape[0] * h.shape[1], 12)).reshape(h.shape),
    "features": lambda m, h: m.second((h[..., None] * torch.ones(2))[..., 0].flatten(-1)),
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("name", TOKENS)
def test_compact_models_take_more_tokens(name: str, frontend: str) -> None:
    torch.manual_seed(0)
    model = Tokens(TOKENS[name]).double().eval()
    program = atofx.trace(model, torch.randn(2, 5, 6, dtype=torch.float64), frontend=frontend)
    assert program.prunable
    mask = program.random_mask(keep=0.5)
    compact, gated = program.compact(mask), copy.deepcopy(program.gated(mask))
    zero_in_place(program, mask)
    for length, batch in ((5, 2), (9, 2), (1, 3), (4, 1)):
        x = torch.randn(batch, length, 6, dtype=torch.float64)
        for module in (compact, gated):
            assert relative_error([module(x)], [model(x)]) <= TOLERANCE


@pytest.mark.parametrize("shape", [(6,), (2, 1, 3, 1, 2, 6)])
def test_flops_of_layer_norms_of_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    program = atofx.trace(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2)), torch.randn(*shape))
    report = program.verify(program.random_mask(keep=0.5))
    assert report.ok, str(report)


def test_norms_whose_result_leaves_the_graph_take_no_gates() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4), nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 6, 6)
    program = atofx.trace(model, x)
    mask = program.random_mask(keep=0.5)
    gated, compact = program.gated(mask, places="norms").eval(), program.compact(mask).eval()
    assert torch.allclose(gated(x), compact(x), atol=1e-6)
    mixed = program.mixed({program.prunable[0].name: [4, 8]})
    assert mixed is not None
