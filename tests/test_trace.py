"""Tracing: what it refuses and how it says so, what it leaves alone, what it looks into."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import ExampleInputError, TraceError, UnsupportedOpError
from atofx.passes.trace import Frontend

ROOT = Path(__file__).parents[1]


class BranchesOnValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.fc(x).sum() > 0:
            return x
        return -x


class ReadsNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.mean())


class BranchesOnShapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == 3, "three features"
        x = F.relu(self.wide(x))
        for _ in range(len(x.shape)):
            x = x * 0.5
        return self.out(x if x.dim() == 2 else x.flatten(1))


class KeepsWhatItMade(nn.Module):
    """Keeps a mask, an index and a count for the next call: as an attribute, in a dict, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(3, 8), nn.Linear(8, 2)
        self.scale: Tensor | None = None
        self.by_width: dict[int, Tensor] = {}
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.ones(x.shape[0], 1) * 2
        if x.shape[1] not in self.by_width:
            self.by_width[x.shape[1]] = torch.zeros(x.shape[0], 8)
            self.seen.append(x)
        return self.out(F.relu(self.wide(x)) * self.scale + self.by_width[x.shape[1]])


def test_what_forward_stores_on_the_model_is_undone() -> None:
    net, x = KeepsWhatItMade().double(), torch.randn(4, 3, dtype=torch.float64)
    for _ in range(2):
        program = atofx.trace(net, x)
        assert net.scale is None
        assert net.by_width == {}
        assert net.seen == []
        assert [g.size for g in program.prunable] == [8]
        assert program.verify(program.random_mask()).ok


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_the_model_itself_are_not_lost(register: str) -> None:
    net, x = (
        nn.Sequential(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))).double(),
        torch.ones(2, 3).double(),
    )
    getattr(net, register)(lambda module, inputs, *result: (result or inputs)[0] * 3 + 1)
    with pytest.raises(TraceError, match="itself has forward hooks"):
        atofx.trace(net, x, frontend="symbolic")
    program = atofx.trace(net, x)
    assert [g.size for g in program.prunable] == [8]
    assert torch.equal(program.compact(program.full_mask())(x), net(x))


@pytest.mark.parametrize("frontend", ["auto", "symbolic", "export"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
def test_scripted_submodules_are_named(frontend: Frontend) -> None:
    net = nn.Sequential(nn.Linear(3, 8), torch.jit.script(nn.Sequential(nn.ReLU())), nn.Linear(8, 3))
    with pytest.raises(TraceError, match=r"Sequential\.1 was compiled by torch\.jit.* trace the model before"):
        atofx.trace(net, torch.ones(2, 3), frontend=frontend)


@pytest.mark.parametrize("frontend", ["auto", "export"])
def test_lazy_layers_that_were_not_called_are_named(frontend: Frontend) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LazyConv2d(4, 3))
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(
        TraceError, match=r"Sequential\.1 \(LazyConv2d\) does not know the shapes of its parameters yet"
    ):
        atofx.trace(model, x, frontend=frontend)
    model(x)
    assert [group.size for group in atofx.trace(model, x, frontend=frontend).prunable] == [8]


class HooksItselfOnce(nn.Module):
    """Registers a hook on its first call, and remembers that it did."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(3, 8), nn.Linear(8, 2)
        self.hooked = False
        self.calls: list[str] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.hooked:
            self.wide.register_forward_hook(lambda *_: self.calls.append("wide"))
            self.hooked = True
        return self.out(F.relu(self.wide(x)))


def test_hooks_that_forward_registers_are_given_back() -> None:
    net, x = HooksItselfOnce(), torch.randn(4, 3)
    atofx.trace(net, x)
    assert not net.hooked
    assert not net.wide._forward_hooks
    net(x)
    assert net.calls == ["wide"]


@pytest.mark.parametrize("net", [BranchesOnValues, ReadsNumber])
def test_control_flow_on_values_names_the_users_line(net: type[nn.Module]) -> None:
    with pytest.raises(TraceError, match=r"depends on the data.*test_trace\.py:\d+"):
        atofx.trace(net(), torch.randn(2, 3))


def test_control_flow_on_shapes_is_followed() -> None:
    program = atofx.trace(BranchesOnShapes(), torch.randn(2, 3))
    assert [g.size for g in program.prunable] == [8]
    assert program.verify(program.random_mask()).ok


def test_wrong_input_says_where_and_which_shape() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(5, 4, 3))
    with pytest.raises(TraceError, match=r"\(1, 4, 6, 6\)"):
        atofx.trace(net, torch.randn(1, 3, 8, 8))


def test_inputs_that_do_not_fit_the_signature() -> None:
    with pytest.raises(TraceError, match="keyword inputs"):
        atofx.trace(nn.Linear(3, 4), {"y": torch.randn(1, 3)})
    with pytest.raises(TraceError, match=r"torch\.nn\.Module"):
        atofx.trace(torch.relu, torch.randn(1, 3))  # type: ignore[arg-type]


def test_keyword_inputs() -> None:
    program = atofx.trace(BranchesOnShapes(), {"x": torch.randn(2, 3)})
    assert program.verify(program.random_mask()).ok


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.fft.fft(self.wide(x)).real)


def test_unknown_operation_pins_and_is_reported() -> None:
    program = atofx.trace(Unknown(), torch.randn(3, 4))
    assert not program.prunable
    assert [note.op for note in program.notes] == ["fft_fft"]
    assert "fft_fft" in program.summary()
    explained = program.explain("wide.weight")
    assert "no record describes fft_fft" in explained
    assert "register_op" in explained


def test_strict_names_the_operation_and_where_to_add_it() -> None:
    with pytest.raises(UnsupportedOpError, match=r"fft_fft.*\(3, 8\).*atofx/ops"):
        atofx.trace(Unknown(), torch.randn(3, 4), strict=True)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru = nn.Linear(3, 8), nn.GRU(8, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.embed(x))[0]


def test_recurrent_layers_keep_their_own_weights() -> None:
    model = Recurrent()
    program = atofx.trace(model, torch.randn(2, 5, 3))
    program.compact(program.random_mask())
    assert all(w is p for w, p in zip(model.gru._flat_weights, model.gru.parameters(), strict=True))
    model(torch.randn(2, 5, 3)).sum().backward()
    assert model.gru.weight_ih_l0.grad is not None


class MakesTensors(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[0], x.shape[1]
        return x + torch.zeros(b, c) + torch.arange(c)


def test_factories_are_restored() -> None:
    before = torch.zeros, torch.arange
    atofx.trace(MakesTensors(), torch.randn(2, 3))
    assert (torch.zeros, torch.arange) == before
    assert isinstance(torch.zeros(2), Tensor)


def test_training_flag_follows_the_mode() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.fc(x), 0.5, self.training)

    program = atofx.trace(Net().eval(), torch.randn(2, 4))
    x = torch.randn(2, 4)
    module = program.module
    assert torch.equal(module.eval()(x), module.eval()(x))
    torch.manual_seed(0)
    assert not torch.equal(module.train()(x), module.train()(x))


def test_the_place_of_an_error_is_in_torchvision_where_the_model_is() -> None:
    with pytest.raises(TraceError, match=r"torchvision/models/alexnet\.py:\d+"):
        atofx.trace(torchvision.models.alexnet(), torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("frontend", ["auto", "symbolic", "export"])
def test_shapes_changed_in_place_are_refused(frontend: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)[..., None]
            y.squeeze_(-1)
            return self.b(y)

    with pytest.raises(TraceError, match=r"Tensor\.squeeze_ changes the shape of a tensor in place.*result of squeeze"):
        atofx.trace(Net(), torch.randn(4, 3), frontend=frontend)  # type: ignore[arg-type]


class ChoosesByValue(nn.Module):
    """Its layers are regions; it keeps results of an earlier call with gradients, in a tuple and behind a hook."""

    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        self.out = norm(nn.Linear(4, 2))
        self.kept = (torch.ones(3, requires_grad=True) * 2, "of an earlier call")

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.out(x) if float(x.detach().sum()) < 1e9 else x


OLD_NORMS = [nn.utils.spectral_norm, nn.utils.weight_norm]


@pytest.mark.filterwarnings("ignore:.*is deprecated in favor of:FutureWarning")
@pytest.mark.parametrize("norm", OLD_NORMS)
@pytest.mark.parametrize("training", [False, True])
def test_weights_that_hooks_compute_with_gradients(norm: Callable[[nn.Module], nn.Module], training: bool) -> None:
    """A fresh model holds a weight that torch does not copy, as it is no leaf."""
    torch.manual_seed(0)
    layers = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), norm(nn.Linear(8, 4)), nn.ReLU(), nn.Linear(4, 2)
    for model in (nn.Sequential(*layers), ChoosesByValue(norm)):
        model.train(training)
        hooked = next(m for m in model.modules() if m._forward_pre_hooks)
        before = dict(vars(model)), dict(vars(hooked)), copy.deepcopy(model.state_dict())
        program = atofx.trace(model, torch.randn(3, 4))
        assert [g.size for g in program.prunable][:1] == [8]
        assert program.verify(program.random_mask()).ok
        assert (vars(model), vars(hooked)) == before[:2]
        assert all(torch.equal(tensor, before[2][name]) for name, tensor in model.state_dict().items())


class TakesTwo(nn.Module):
    """Two inputs of one kind, one of which may have no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 2)

    def forward(self, x: Tensor, more: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.out(F.relu(self.wide(each)).flatten(2).mean(2)) for each in (x, more["rest"]))


class TakesPast(nn.Module):
    """Nothing has gone before the first step: an empty input, and an example like any other."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return self.out(F.relu(self.wide(x))), torch.cat([past, x], 1)


@pytest.mark.parametrize("frontend", ["auto", "symbolic", "export"])
def test_empty_examples_are_named(frontend: Frontend) -> None:
    full, empty = torch.zeros(2, 3, 6, 6), torch.zeros(0, 3, 6, 6)
    with pytest.raises(ExampleInputError, match=r"input x of TakesTwo is empty, of shape \(0, 3, 6, 6\)"):
        atofx.trace(TakesTwo(), (empty, {"rest": empty}), frontend=frontend)
    with pytest.raises(ExampleInputError, match=r"input more\['rest'\] of TakesTwo is empty.* batch of one"):
        atofx.trace(TakesTwo(), (full, {"rest": empty}), frontend=frontend)
    program = atofx.trace(TakesPast(), (torch.randn(2, 3, 4), torch.zeros(2, 0, 4)), frontend=frontend)
    assert [g.size for g in program.prunable] == [8]
    assert program.verify(program.random_mask()).ok


_COMPILED_AFTER = """
import torch
from torch import nn
import atofx

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.b(self.a(x).abs() + torch.ones(8))

atofx.trace(Net(), torch.randn(2, 4))
print(torch.compile(lambda x: x + torch.ones(3), fullgraph=True, backend="eager")(torch.zeros(3)).tolist())
"""


def test_what_is_imported_meanwhile_finds_the_functions_of_torch() -> None:
    """Evaluating an operation imports torch's compiler, which must know `torch.ones` afterwards."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _COMPILED_AFTER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[1.0, 1.0, 1.0]\n", done.stderr
