"""Layers that ``forward`` sets, or gives other tensors for a while, compute with that, not with what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import atofx
from atofx.errors import TraceError
from tests.invariants import TOLERANCE, relative_error
from tests.models.case import conv


class Net(nn.Module):
    def __init__(self, inner: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.own, self.other, self.last = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 2)
        self.act, self.pool, self.bn = nn.LeakyReLU(0.1), nn.AvgPool2d(1, stride=1), nn.BatchNorm2d(8)
        self.other_bn, self.adaptive = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.inner(self, self.first(x))))


@contextmanager
def _set(layer: Any, **settings: Any) -> Iterator[None]:
    before = {name: getattr(layer, name) for name in settings}
    vars(layer).update(settings)
    yield
    vars(layer).update(before)


def _slopes(m: Any, h: Tensor) -> Tensor:
    with _set(m.act, negative_slope=0.5):
        h = m.act(h)
    return m.act(m.own(h))


def _slope_for_now(m: Any, h: Tensor) -> Tensor:
    with _set(m.act, negative_slope=0.7):
        return m.act(h)


def _pyramid(m: Any, h: Tensor) -> Tensor:
    levels = []
    for size in (3, 5, 1):
        with _set(m.pool, kernel_size=size, padding=size // 2):
            levels.append(m.pool(h))
    return sum(levels)


def _whole_image(m: Any, h: Tensor) -> Tensor:
    with _set(m.pool, kernel_size=tuple(h.shape[2:])):
        return h + m.pool(h)


def _half_image(m: Any, h: Tensor) -> Tensor:
    with _set(m.adaptive, output_size=(h.shape[2] // 2, h.shape[3] // 2)):
        return m.adaptive(h)


def _eps(m: Any, h: Tensor) -> Tensor:
    with _set(m.bn, eps=0.5):
        return m.bn(h)


#: What ``forward`` does to a layer while it calls it.
SET: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "slopes": _slopes,
    "slope_for_now": _slope_for_now,
    "pyramid": _pyramid,
    "whole_image": _whole_image,
    "half_image": _half_image,
    "eps": _eps,
}
#: Layers called with the tensors of another one.
LENT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "all_of_another": lambda m, h: functional_call(m.own, dict(m.other.named_parameters()), (h,)),
    "one_of_another": lambda m, h: functional_call(m.own, {"weight": m.other.weight}, (h,)),
    "computed": lambda m, h: functional_call(m.own, {"weight": m.other.weight * 2}, (h,)),
    "its_own": lambda m, h: functional_call(m.own, dict(m.own.named_parameters()), (h,)),
    "both": lambda m, h: m.own(functional_call(m.own, dict(m.other.named_parameters()), (h,))),
    "norm": lambda m, h: functional_call(
        m.bn, {**dict(m.other_bn.named_parameters()), **dict(m.other_bn.named_buffers())}, (h,)
    ),
}


@pytest.mark.parametrize("frontend", ["symbolic", "export", "auto"])
@pytest.mark.parametrize("name", [*SET, *LENT])
def test_layers_compute_with_what_they_are_given(name: str, frontend: str) -> None:
    torch.manual_seed(0)
    model, x = Net((SET | LENT)[name]).double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            tensor.uniform_(0.3, 1.0)
    try:
        program = atofx.trace(model, x, frontend=frontend)
    except TraceError:
        assert frontend == "symbolic"
        assert name in {"one_of_another", "computed"}  # functional_call takes no proxies
        return
    assert program.frontend in ("symbolic", "export")
    assert program.prunable
    assert relative_error([program.module(x)], [model(x)]) <= TOLERANCE
    report = program.verify(program.random_mask(keep=0.5))
    assert report.ok, str(report)


class Autocast(nn.Module):
    def __init__(self, *, enabled: bool) -> None:
        super().__init__()
        self.first, self.last, self.enabled = conv(3, 8), conv(8, 2), enabled

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.enabled):
            return self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize("frontend", ["symbolic", "export", "auto"])
def test_blocks_of_another_precision_are_refused(frontend: str) -> None:
    message = "autocast" if frontend == "export" else r"torch\.bfloat16 under torch\.autocast .*with torch\.autocast"
    with pytest.raises(TraceError, match=message):
        atofx.trace(Autocast(enabled=True), torch.randn(2, 3, 6, 6), frontend=frontend)


def test_blocks_that_are_not_enabled_are_none() -> None:
    model, x = Autocast(enabled=False).eval(), torch.randn(2, 3, 6, 6)
    program = atofx.trace(model, x)
    assert program.frontend == "symbolic"
    assert torch.equal(program.module(x), model(x))
