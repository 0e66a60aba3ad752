"""What a program makes can be pickled and copied, a program be copied: outputs, mode, names and class stay."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import PickleError
from atofx.passes.gate import Gated
from tests.invariants import call
from tests.models import CASES, Case
from tests.test_regions import Branch

#: Nets whose graphs torch cannot read again as it writes them: `len`, slices by sizes, assignments to slices, unpacked
#: sizes, the mode, constants, a function that does not lie where its name says.
HARD = (
    "multihead_batch_first",
    "transformer_encoder_layer_norm_first",
    "divided_by_var_mean",
    "mask_of_sizes",
    "set_item",
    "gather_channels",
    "dropout_functional",
    "no_constant_view_changed",
    "scaling_buffer",
    "u_net",
)


def through_file(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {"file": through_file, "copy": copy.deepcopy}
KINDS: dict[str, Callable[[atofx.Program], nn.Module]] = {
    "compact": lambda program: program.compact(program.random_mask()),
    "gated": lambda program: program.gated(program.random_mask()),
    "zeroed": lambda program: program.zeroed(program.random_mask()),
    "module": lambda program: program.module,
}


def assert_same(module: nn.Module, again: nn.Module, inputs: Any) -> None:
    """The same in both modes, whichever one was written."""
    assert type(again).__name__ == type(module).__name__
    assert list(again.state_dict()) == list(module.state_dict())
    assert again.training == module.training
    for training in (not module.training, module.training):
        results = []
        for each in (module, again):
            torch.manual_seed(0)
            results.append(call(copy.deepcopy(each).train(training), inputs))
        torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [c for c in CASES if c.name in HARD], ids=lambda c: c.name)
def test_a_graph_comes_back_as_it_was(case: Case, kind: str, way: str) -> None:
    torch.manual_seed(0)
    inputs = case.inputs(3)
    module = KINDS[kind](atofx.trace(case.build().double(), inputs))
    assert_same(module, WAYS[way](module), inputs)


class HoldsPruned(nn.Module):
    """A region is a graph module already."""

    def __init__(self) -> None:
        super().__init__()
        program = atofx.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(2, 4))
        self.first, self.out = program.compact(program.random_mask(keep=0.75)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.out(x) if float(x.sum()) < 1e9 else x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("model", "shape"), [(Branch, (2, 3, 6, 6)), (HoldsPruned, (3, 4))])
def test_a_model_in_regions_comes_back_as_it_was(
    model: type[nn.Module], shape: tuple[int, ...], kind: str, way: str
) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(shape)
    program = atofx.trace(model(), inputs)
    assert program.frontend == "regions"
    module = KINDS[kind](program)
    again = WAYS[way](module)
    assert isinstance(again, model)
    assert_same(module, again, inputs)


class Exported(nn.Module):
    """torch.export takes it; its mode is read where it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(F.gelu(self.wide(x)), 0.5, self.training))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_graph_comes_back_as_it_was(kind: str, way: str) -> None:
    torch.manual_seed(0)
    module = KINDS[kind](atofx.trace(Exported(), torch.randn(3, 4), frontend="export"))
    assert_same(module, WAYS[way](module), torch.randn(5, 4))


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_unknown_operations_are_written_by_name(frontend: Any) -> None:
    """An operation of torch.ops cannot be pickled itself."""

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.aten.special_erfcx.default(x)

    module = atofx.trace(nn.Sequential(nn.Linear(4, 8), Calls()), torch.randn(3, 4), frontend=frontend).module
    assert_same(module, through_file(module), torch.randn(3, 4))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("model", "shape"), [(Exported, (3, 4)), (Branch, (2, 3, 6, 6))], ids=["graph", "regions"])
def test_gates_still_open_and_close(model: type[nn.Module], shape: tuple[int, ...], way: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    program = atofx.trace(model().eval(), x)
    mask = program.random_mask()
    gated = WAYS[way](program.gated())
    assert isinstance(gated, Gated)
    assert torch.equal(gated(x), program.module(x))
    gated.set_mask(mask)
    torch.testing.assert_close(gated(x), program.compact(mask)(x))


def test_what_was_read_can_be_traced_and_pruned_again() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    program = atofx.trace(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval(), x)
    small = through_file(program.compact(program.random_mask()))
    again = atofx.trace(small, x)
    assert again.verify(again.random_mask()).ok


COPIED = ("multihead_batch_first", "gather_channels", "scaling_buffer", "frozen_batch_norm", "u_net", "basic_block")
PROGRAMS = {
    **{case.name: (case.build, case.inputs(3).float()) for case in CASES if case.name in COPIED},
    "regions": (Branch, torch.randn(2, 3, 6, 6)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_copied_program_is_the_same_and_its_own(name: str) -> None:
    torch.manual_seed(0)
    build, inputs = PROGRAMS[name]
    model = build().eval()
    program = atofx.trace(model, inputs)
    mask = program.random_mask()
    again = copy.deepcopy(program)
    assert again.summary() == program.summary()
    assert again.flops(mask) == program.flops(mask)
    assert str(again.verify(mask)) == str(program.verify(mask))
    for make in KINDS.values():
        assert_same(make(program), make(again), inputs)
    before = call(program.compact(mask), inputs)
    with torch.no_grad():
        for tensor in again.traced.tensors.values():
            tensor.fill_(3)
    torch.testing.assert_close(call(program.compact(mask), inputs), before, rtol=0, atol=0)
    assert all(bool((tensor == 3).all()) for tensor in again.compact(mask).parameters())
    assert not {id(t) for t in model.state_dict(keep_vars=True).values()} & {
        id(t) for t in again.traced.tensors.values()
    }


def test_a_copied_program_trains_its_own_weights() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 4)
    program = atofx.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), x)
    again = copy.deepcopy({"program": program, "weight": program.tensor("0.weight")})
    assert again["program"].tensor("0.weight") is again["weight"]
    before = program.tensor("0.weight").detach().clone()
    gated = again["program"].gated(program.random_mask())
    gated(x).square().sum().backward()
    torch.optim.SGD(gated.parameters(), 0.1).step()
    assert torch.equal(program.tensor("0.weight"), before)
    assert program.tensor("0.weight").grad is None
    assert not torch.equal(again["weight"], before)
    assert again["program"].verify(program.random_mask()).ok
    assert copy.copy(program).tensor("0.weight") is program.tensor("0.weight")


def test_a_program_is_not_pickled() -> None:
    program = atofx.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(3, 4))
    with pytest.raises(PickleError, match=r"pickle the model, or what program\.compact"):
        torch.save(program, io.BytesIO())
