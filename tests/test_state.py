"""What a model keeps from one call to the next: refused where a graph would forget it, let be where it is no harm."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
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


class Asks(nn.Module):
    """What a function makes of the features and of what is kept."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **kept: Any) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(3, 8), nn.Linear(8, 2), function
        vars(self).update(kept)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self, torch.relu(self.a(x))))


class Checks(Asks):
    """The same in a model that symbolic tracing cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError("needs a tensor")
        return super().forward(x)


@dataclass
class Counter:
    """A plain object that counts."""

    n: int = 0


def one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def decays(s: Any, y: Tensor) -> Tensor:
    s.t = 0.5 * s.t
    return y * s.t


def shows_and_counts(s: Any, y: Tensor) -> Tensor:
    s.shown = y
    s.n += 1
    return y / s.n


def knows_that_it_was_called(s: Any, y: Tensor) -> Tensor:
    if s.shown is not None:
        y = 2 * y
    s.shown = y
    return y


def knows_by_a_flag(s: Any, y: Tensor) -> Tensor:
    if s.called:
        y = 2 * y
    s.called = True
    return y


def knows_by_a_table(s: Any, y: Tensor) -> Tensor:
    if s.table is None:
        y = 2 * y
    s.table = torch.arange(8)
    return y


def warms_up(s: Any, y: Tensor) -> Tensor:
    s.n += 1
    return y if s.n <= 2 else 2 * y


def every_third(s: Any, y: Tensor) -> Tensor:
    s.n += 1
    return y * 2 if s.n % 3 == 0 else y


def in_place(s: Any, y: Tensor) -> Tensor:
    s.t += 1
    return y / s.t


def collects_deep(s: Any, y: Tensor) -> Tensor:
    s.d["k"].append(y)
    return torch.stack(s.d["k"]).sum(0)


def collects_last(s: Any, y: Tensor) -> Tensor:
    s.q.append(y)
    return torch.stack(tuple(s.q)).sum(0)


def counts_outside(s: Any, y: Tensor) -> Tensor:
    s.o.n += 1
    return y / s.o.n


def keeps_a_pair(s: Any, y: Tensor) -> Tensor:
    n = s.pair[0] if s.pair else 0
    s.pair = (n + 1, y)
    return y / (n + 1)


def table_and_counter(s: Any, y: Tensor) -> Tensor:
    if s.table is None:
        s.table = torch.arange(8.0).to(y)
    s.n += 1
    return y * s.table / s.n


def puts_data(s: Any, y: Tensor) -> Tensor:
    s.a.bias.data = 0.5 * s.a.bias
    return y


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[], dict[str, Any]]]] = {
    "decays": (decays, lambda: {"t": one()}),
    "shows_and_counts": (shows_and_counts, lambda: {"n": 0, "shown": None}),
    "knows_that_it_was_called": (knows_that_it_was_called, lambda: {"shown": None}),
    "knows_by_a_flag": (knows_by_a_flag, lambda: {"called": False}),
    "knows_by_a_table": (knows_by_a_table, lambda: {"table": None}),
    "warms_up": (warms_up, lambda: {"n": 0}),
    "every_third": (every_third, lambda: {"n": 0}),
    "in_place": (in_place, lambda: {"t": one()}),
    "collects_deep": (collects_deep, lambda: {"d": {"k": []}}),
    "collects_last": (collects_last, lambda: {"q": deque(maxlen=3)}),
    "counts_outside": (counts_outside, lambda: {"o": SimpleNamespace(n=0)}),
    "counts_in_a_dataclass": (counts_outside, lambda: {"o": Counter()}),
    "keeps_a_pair": (keeps_a_pair, lambda: {"pair": None}),
    "table_and_counter": (table_and_counter, lambda: {"table": None, "n": 0}),
    "puts_data": (puts_data, dict),
}


def logs(s: Any, y: Tensor) -> Tensor:
    s.q.append(y.mean())
    s.d.setdefault("log", []).append(y.mean())
    return y


def number_of_size(s: Any, y: Tensor) -> Tensor:
    if s.shape != y.shape:
        s.shape = y.shape
        s.scale = y.shape[0] * 2
    return y * s.scale


def numbers_by_size(s: Any, y: Tensor) -> Tensor:
    n = y.shape[0]
    if n not in s.d:
        s.d[n] = n * 3
    return y * s.d[n]


def tables_by_size(s: Any, y: Tensor) -> Tensor:
    n = y.shape[0]
    if n not in s.d:
        s.d[n] = torch.arange(n).to(y)[:, None]
    return y * s.d[n]


def table_of_a_parameter(s: Any, y: Tensor) -> Tensor:
    if s.table is None:
        s.table = s.a.bias * 2
    return y * s.table


def table_made_in_place(s: Any, y: Tensor) -> Tensor:
    if s.table is None:
        s.table = torch.zeros(16, 1)
        s.table[2:] = torch.arange(14)[:, None]
    return y * s.table[:4].to(y)


def looks_at_first(s: Any, y: Tensor) -> Tensor:
    s.n += 1
    if s.n == 1:
        assert y.shape[1] == 8
    return y


HARMLESS: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[], dict[str, Any]]]] = {
    "logs": (logs, lambda: {"q": deque(), "d": {}}),
    "number_of_size": (number_of_size, lambda: {"shape": None, "scale": None}),
    "numbers_by_size": (numbers_by_size, lambda: {"d": {}}),
    "tables_by_size": (tables_by_size, lambda: {"d": {}}),
    "table_of_a_parameter": (table_of_a_parameter, lambda: {"table": None}),
    "table_made_in_place": (table_made_in_place, lambda: {"table": None}),
    "looks_at_first": (looks_at_first, lambda: {"n": 0}),
}


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


def held(model: nn.Module) -> str:
    return repr({key: value for key, value in vars(model).items() if not key.startswith("_")})


@pytest.mark.parametrize("frontend", ["auto", "export"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_kept_in_other_ways_is_refused(name: str, frontend: Any) -> None:
    function, kept = REFUSED[name]
    model = Asks(function, **kept()).double().eval()
    before = held(model)
    with pytest.raises(TraceError, match=r"from one call to the next|assignment to the \.data"):
        atofx.trace(model, inputs(), frontend=frontend)
    assert held(model) == before


@pytest.mark.parametrize("frontend", ["auto", "export"])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_the_same_for_every_call_may_be_kept(name: str, frontend: Any) -> None:
    function, kept = HARMLESS[name]
    model, x = Asks(function, **kept()).double().eval(), inputs()
    before = held(model)
    program = atofx.trace(model, x, frontend=frontend)
    assert held(model) == before
    assert program.frontend == {"auto": "symbolic"}.get(frontend, frontend)
    assert [group.size for group in program.prunable] == [8]
    assert_calls_agree(copy.deepcopy(model), program.compact(program.full_mask()), x)


@pytest.mark.parametrize("frontend", ["auto", "export"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_only_export_could_follow_is_refused_too(name: str, frontend: Any) -> None:
    function, kept = REFUSED[name]
    model = Checks(function, **kept()).double().eval()
    before = held(model)
    with pytest.raises(TraceError, match=r"called again on the same inputs it gives something else"):
        atofx.trace(model, inputs(), frontend=frontend)
    assert held(model) == before


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_export_can_follow_may_keep_what_is_the_same_for_every_call(name: str) -> None:
    function, kept = HARMLESS[name]
    model, x = Checks(function, **kept()).double().eval(), inputs()
    before = held(model)
    program = atofx.trace(model, x)
    assert held(model) == before
    assert program.frontend == "export"
    assert_calls_agree(copy.deepcopy(model), program.compact(program.full_mask()), x)


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
