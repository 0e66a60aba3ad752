"""Forward hooks are traced as the code of the modules is, with what they keep for later in the same call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.module import register_module_forward_hook

import atofx
from atofx.errors import TraceError
from atofx.passes.trace import Frontend
from atofx.testing import relative_error
from benchmarks._coverage.ours import zero_in_place

KEPT: dict[str, Any] = {}


class Net(nn.Module):
    """Features of a body by way of a hook, and a head on them."""

    def __init__(self, hook: Callable[[Any], Callable[..., Any]], read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6))
        self.head = nn.Linear(8, 2)
        self.read = read
        self.found: dict[str, Any] = {}
        self.list: list[Tensor] = []
        self.last: Any = None
        self.saved = Saved()
        self.body[1].register_forward_hook(hook(self))

    def keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.last = output

    def keep_as(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.found[name] = output

    def forward(self, x: Tensor) -> Tensor:
        self.list.clear()
        self.body(x)
        return self.head(self.read(self))


class Saved:
    """An object of its own that keeps what a layer gives."""

    features: Any = None

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.features = output

    def save(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.features = output


def into_a_dict(net: Net) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        net.found["features"] = output

    return hook


def in_a_variable() -> tuple[Callable[[Any], Callable[..., None]], Callable[[Any], Any]]:
    features: Any = None

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal features
        features = output

    return lambda net: hook, lambda net: features


WAYS: dict[str, tuple[Callable[[Any], Callable[..., Any]], Callable[[Any], Any]]] = {
    "method": (lambda net: net.keep, lambda net: net.last),
    "partial": (lambda net: functools.partial(net.keep_as, "a"), lambda net: net.found["a"]),
    "closure": (into_a_dict, lambda net: net.found["features"]),
    "variable": in_a_variable(),
    "list": (lambda net: lambda module, inputs, output: net.list.append(output), lambda net: net.list[0]),
    "popped": (lambda net: lambda module, inputs, output: net.list.append(output), lambda net: net.list.pop()),
    "object": (lambda net: net.saved.save, lambda net: net.saved.features),
    "global": (lambda net: lambda module, inputs, output: KEPT.update(a=output), lambda net: KEPT["a"]),
    "on_the_layer": (lambda net: lambda module, *_: setattr(module, "out", _[1]), lambda net: net.body[1].out),
    "input": (lambda net: lambda module, inputs, output: net.list.append(inputs[0]), lambda net: net.list[0]),
}


def values(net: Net) -> Iterator[Any]:
    yield from (net.last, net.saved.features, *net.found.values(), *net.list, *KEPT.values())


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("ran", [False, True], ids=["new", "ran_before"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_hook_keeps_is_seen(way: str, ran: bool, frontend: Frontend) -> None:
    KEPT.clear()
    net, x = Net(*WAYS[way]).double(), torch.randn(4, 3, dtype=torch.float64)
    if ran:
        net(torch.randn(2, 3, dtype=torch.float64))
    program = atofx.trace(net, x, frontend=frontend)
    assert not any(isinstance(value, fx.Proxy) for value in values(net))
    assert 8 in [group.size for group in program.prunable]
    mask = program.random_mask()
    compact, gated = program.compact(mask), program.gated(mask)
    zero_in_place(program, mask)
    for batch in (x, torch.randn(5, 3, dtype=torch.float64)):
        assert relative_error(compact(batch), net(batch)) <= 1e-9
        assert relative_error(gated(batch), net(batch)) <= 1e-9


class Changed(nn.Module):
    """A layer whose hooks change what it gets and gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.a, self.layer, self.b = nn.Linear(3, 8), layer, nn.Linear(8, 2)
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(-1), *inputs[1:]))
        layer.register_forward_hook(self.doubled)

    @staticmethod
    def doubled(module: nn.Module, inputs: Any, output: Any) -> Any:
        return (output[0] * 2, *output[1:]) if isinstance(output, tuple) else output * 2

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        more = (x, x) if isinstance(self.layer, nn.MultiheadAttention) else ()
        y = self.layer(x, *more)
        return self.b(y[0] if isinstance(y, tuple) else y)


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize(
    "layer",
    [lambda: nn.Linear(8, 8), lambda: nn.LayerNorm(8), lambda: nn.MultiheadAttention(8, 2)],
    ids=["linear", "layer_norm", "attention"],
)
def test_what_a_hook_changes_is_seen(layer: Callable[[], nn.Module], frontend: Frontend) -> None:
    net, x = Changed(layer()).double().eval(), torch.randn(4, 3, dtype=torch.float64)
    program = atofx.trace(net, x, frontend=frontend)
    assert relative_error(program.module(x), net(x)) <= 1e-9
    assert program.prunable
    mask = program.random_mask()
    compact, gated = program.compact(mask), program.gated(mask)
    zero_in_place(program, mask)
    assert relative_error(compact(x), net(x)) <= 1e-9
    assert relative_error(gated(x), net(x)) <= 1e-9
    assert list(net.layer._forward_hooks.values()) == [Changed.doubled]


def test_a_hook_that_cannot_be_traced_is_refused_and_named() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    net[0].register_forward_hook(lambda module, inputs, output: output * float(output.mean()))
    with pytest.raises(TraceError, match=r"test_hooks\.py:\d+"):
        atofx.trace(net, torch.randn(4, 3), frontend="symbolic")


def test_a_hook_that_only_looks_does_no_harm() -> None:
    net, x = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(4, 3)
    shapes: list[Any] = []
    net[0].register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    program = atofx.trace(net, x)
    assert shapes == []
    assert [group.size for group in program.prunable] == [8]
    assert program.verify(program.random_mask()).ok
    net(x)
    assert shapes == [(4, 8)]


class HooksWhileItRuns(nn.Module):
    """A hook that is there during the call only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        handle = self.b.register_forward_hook(lambda module, inputs, output: output * (1 + inputs[0].mean()))
        y = self.c(torch.relu(self.b(torch.relu(self.a(x)))))
        handle.remove()
        return y


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_a_hook_that_forward_registers_and_removes_is_seen(frontend: Frontend) -> None:
    net, x = HooksWhileItRuns().double(), torch.randn(4, 3, dtype=torch.float64)
    program = atofx.trace(net, x, frontend=frontend)
    assert torch.equal(program.module(x), net(x))
    assert sorted(group.size for group in program.prunable) == [7, 8]
    mask = program.random_mask()
    compact = program.compact(mask)
    zero_in_place(program, mask)
    assert relative_error(compact(x), net(x)) <= 1e-9


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_hooks_of_all_modules_run_once(frontend: Frontend) -> None:
    """Where the graph calls a module they run then, and are not written into it."""
    net, x = Net(*WAYS["method"]).double(), torch.randn(4, 3, dtype=torch.float64)

    def doubled(module: nn.Module, inputs: Any, output: Any) -> Any:
        return output * 2 if isinstance(module, (nn.Linear, nn.ReLU)) else None

    handle = register_module_forward_hook(doubled)
    try:
        graph = atofx.trace(net, x, frontend=frontend).module
        assert torch.equal(graph(x), net(x))
    finally:
        handle.remove()


class Called(nn.Sequential):
    """Does more than its ``forward`` when it is called."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 3 + 1


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_a_model_with_a_call_of_its_own_is_refused(frontend: Frontend) -> None:
    net = Called(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    with pytest.raises(TraceError, match="Called has a __call__ of its own"):
        atofx.trace(net, x, frontend=frontend)
    inside = atofx.trace(net, x)
    assert inside.frontend == "regions"
    assert torch.equal(inside.compact(inside.full_mask())(x), net(x))
    outside = atofx.trace(nn.Sequential(net), x, frontend=frontend)
    assert torch.equal(outside.module(x), net(x))
