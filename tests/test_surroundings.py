"""What a model's code stores beside its modules: put back after tracing, or refused."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx.errors import TraceError
from atofx.passes.surroundings import surroundings
from tests import outside

MEMO: dict[Any, Tensor] = {}
TABLE: Tensor | None = None
CALLS = SimpleNamespace(n=0)
COUNT = 0


class Memory:
    """What belongs to a class."""

    table: Tensor | None = None
    calls = 0

    @classmethod
    def ramp(cls, y: Tensor) -> Tensor:
        if cls.table is None:
            cls.table = torch.arange(y.shape[1]).to(y)
        return cls.table

    @staticmethod
    @functools.lru_cache
    def cached(n: int, dtype: torch.dtype) -> Tensor:
        return torch.arange(n, dtype=dtype)


class Net(nn.Module):
    """What a method makes of the features."""

    own: Tensor | None = None
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.scaled(torch.relu(self.a(x))))

    def scaled(self, y: Tensor) -> Tensor:
        raise AssertionError("a net of its own for every way")


def in_a_dict(_: nn.Module, y: Tensor) -> Tensor:
    if y.shape[1] not in MEMO:
        MEMO[y.shape[1]] = torch.arange(y.shape[1]).to(y)
    return y * MEMO[y.shape[1]]


def by_a_global_name(_: nn.Module, y: Tensor) -> Tensor:
    global TABLE
    if TABLE is None:
        TABLE = torch.arange(y.shape[1]).to(y)
    return y * TABLE


def in_the_class(net: nn.Module, y: Tensor) -> Tensor:
    kind: Any = type(net)
    if kind.own is None:
        kind.own = torch.arange(y.shape[1]).to(y)
    return y * kind.own


def in_another_class(_: nn.Module, y: Tensor) -> Tensor:
    return y * Memory.ramp(y)


def in_another_file(_: nn.Module, y: Tensor) -> Tensor:
    return y * outside.ramp(y)


def in_a_cached_function(_: nn.Module, y: Tensor) -> Tensor:
    return y * outside.cached(8, y.dtype)


def in_a_cached_method(_: nn.Module, y: Tensor) -> Tensor:
    return y * Memory.cached(8, y.dtype)


def counts_in_an_object(_: nn.Module, y: Tensor) -> Tensor:
    CALLS.n += 1
    return y / CALLS.n


def counts_by_a_global_name(_: nn.Module, y: Tensor) -> Tensor:
    global COUNT
    COUNT += 1
    return y / COUNT


def counts_in_the_class(net: nn.Module, y: Tensor) -> Tensor:
    kind: Any = type(net)
    kind.calls += 1
    return y / kind.calls


def counts_in_another_class(_: nn.Module, y: Tensor) -> Tensor:
    Memory.calls += 1
    return y / Memory.calls


def counts_in_another_file(_: nn.Module, y: Tensor) -> Tensor:
    return y / outside.count()


def net(scaled: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module:
    return type("Net", (Net,), {"scaled": scaled, "__module__": __name__})().double().eval()


def held() -> str:
    shared = (MEMO, TABLE, CALLS, COUNT, Memory.table, Memory.calls, Net.own, Net.calls, vars(outside)["KEPT"])
    return repr((shared, Memory.cached.cache_info().currsize, outside.cached.cache_info().currsize))


def inputs() -> Tensor:
    return torch.randn(4, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    "scaled",
    [
        in_a_dict,
        by_a_global_name,
        in_the_class,
        in_another_class,
        in_another_file,
        in_a_cached_function,
        in_a_cached_method,
    ],
)
def test_nothing_of_a_trace_stays_beside_the_model(scaled: Callable[[nn.Module, Tensor], Tensor]) -> None:
    before = held()
    model, x = net(scaled), inputs()
    program = atofx.trace(model, x)
    assert held() == before
    assert program.frontend == "symbolic"
    assert [group.size for group in program.prunable] == [8]
    assert program.verify(program.random_mask(keep=0.5)).ok
    expected = model.b(torch.relu(model.a(x)) * torch.arange(8))
    torch.testing.assert_close(program.compact(program.full_mask())(x), expected)


@pytest.mark.parametrize(
    ("scaled", "name"),
    [
        (counts_in_an_object, "tests.test_surroundings.CALLS"),
        (counts_by_a_global_name, "tests.test_surroundings.COUNT"),
        (counts_in_the_class, "tests.test_surroundings.Net.calls"),
        (counts_in_another_class, "tests.test_surroundings.Memory.calls"),
        (counts_in_another_file, "tests.outside.KEPT"),
    ],
)
def test_what_the_next_call_computes_with_is_refused(scaled: Callable[[nn.Module, Tensor], Tensor], name: str) -> None:
    before = held()
    with pytest.raises(TraceError, match=f"Net keeps '{name}' from one call to the next"):
        atofx.trace(net(scaled), inputs())
    assert held() == before


class Makes(OrderedDict[str, Any]):
    """A table that makes its entries anew, as Hugging Face has one of activations."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)()


MADE = Makes(relu=nn.ReLU)


def test_a_table_that_makes_its_entries_is_left_alone() -> None:
    def activated(_: nn.Module, y: Tensor) -> Tensor:
        activated_again: Tensor = MADE["relu"](y)
        return activated_again

    atofx.trace(net(activated), inputs())
    assert OrderedDict.__getitem__(MADE, "relu") is nn.ReLU


def test_only_what_the_code_names_is_looked_at() -> None:
    found = dict(surroundings([net(in_a_dict)]))
    assert "MEMO" in found["tests.test_surroundings"]
    assert "COUNT" not in found["tests.test_surroundings"]
    assert not any(name.startswith("torch") for name in found)
