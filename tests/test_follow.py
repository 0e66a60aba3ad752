"""What happens to the user's model after it was traced: other tensors are taken up, another model is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import atofx
from atofx.errors import ModelChangedError
from benchmarks._coverage.ours import zero_in_place
from tests.invariants import TOLERANCE, randomise, relative_error
from tests.models.case import conv


class Net(nn.Module):
    """Tensors in layers and beside them, one under two names, one that an index is computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn, self.last = conv(3, 8), nn.BatchNorm2d(8), conv(8, 4)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.tied = nn.ParameterList([self.scale])
        self.register_buffer("gain", torch.ones(1))
        self.register_buffer("order", torch.tensor([1, 0, 3, 2, 5, 4, 7, 6]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.first(x)) * self.scale
        return self.last(y[:, self.order] * self.tied[0]) * self.gain


class Chooses(Net):
    """Can only be traced in regions."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.end = Net(), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return self.end(y) * self.gain if float(y.detach().sum()) < 1e9 else y


def _assign(model: nn.Module) -> None:
    tied = {"tied.0": "scale", "inner.tied.0": "inner.scale"}
    new = {name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: new[tied.get(name, name)] for name in new}, assign=True)
    for part in model.modules():  # torch makes two parameters of one
        if isinstance(part, Net):
            part.tied[0] = part.scale


def _there_and_back(model: nn.Module) -> None:
    model.float()
    for tensor in model.state_dict().values():
        tensor.mul_(2 if tensor.is_floating_point() else 1)
    model.double()


def _to_empty(model: nn.Module) -> None:
    state = copy.deepcopy(model.state_dict())
    model.to_empty(device="cpu").load_state_dict({name: tensor * 2 for name, tensor in state.items()})
    for name, buffer in model.named_buffers():
        if name.endswith("order"):
            buffer.copy_(state[name])


def _one_by_one(model: nn.Module) -> None:
    for part in model.modules():
        if isinstance(part, Net):
            part.gain = part.gain * 3
            part.scale = part.tied[0] = nn.Parameter(part.scale.detach() * 2)
            part.last.weight = nn.Parameter(part.last.weight.detach() * 2)
            part.bn.running_mean = part.bn.running_mean + 1


CHANGES: list[Callable[[nn.Module], None]] = [_assign, _there_and_back, _to_empty, _one_by_one]
KINDS: list[tuple[type[nn.Module], str]] = [(Net, "symbolic"), (Net, "export"), (Chooses, "auto")]


def _traced(net: type[nn.Module], frontend: str) -> tuple[nn.Module, atofx.Program, Tensor]:
    torch.manual_seed(0)
    model, x = net().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    randomise(model, seed=1)
    return model, atofx.trace(model, x, frontend=frontend), x


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("net", "frontend"), KINDS)
def test_other_tensors_are_taken_up(net: type[nn.Module], frontend: str, change: Callable[[nn.Module], None]) -> None:
    model, program, x = _traced(net, frontend)
    before = model(x)
    used = program.module  # made before the change
    change(model)
    mask = program.random_mask(keep=0.5)
    made = [program.compact(mask), program.gated(mask), program.zeroed(mask)]
    assert program.verify(mask).ok
    assert all(program.tensor(name) is tensor for name, tensor in model.named_parameters())
    assert all(program.tensor(name) is tensor for name, tensor in model.named_buffers())
    dense = model(x)
    assert relative_error([dense], [before]) > 0.1
    assert relative_error([program.module(x)], [dense]) == 0
    assert net is Chooses or used is program.module
    zero_in_place(program, mask)
    expected = model(x)
    for module in made:
        assert relative_error([module.eval()(x)], [expected]) <= TOLERANCE


def test_the_first_question_may_be_for_a_tensor() -> None:
    model, program, _ = _traced(Net, "symbolic")
    _assign(model)
    assert program.tensor("scale") is model.scale
    assert program.tensor("first.weight") is model.first.weight


def test_zeros_are_those_of_now() -> None:
    model, program, _ = _traced(Net, "symbolic")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("first.weight", "first.bias", "bn.weight", "bn.bias", "scale", "tied.0"):
        state[name][:4] = 0
    model.load_state_dict(state, assign=True)
    model.tied[0] = model.scale
    assert program.zero_mask()[program.prunable[0].name].tolist() == [False, False, True, True]  # pairs are units


def test_a_copy_of_a_program_has_a_model_of_its_own() -> None:
    model, program, x = _traced(Net, "symbolic")
    other, before = copy.deepcopy(program), model(x)
    _assign(model)
    assert relative_error([other.module(x)], [before]) == 0
    assert relative_error([program.module(x)], [model(x)]) == 0


def _another_layer(model: nn.Module) -> None:
    model.last = conv(8, 4).double()


def _no_layer(model: nn.Module) -> None:
    del model.bn


def _another_shape(model: nn.Module) -> None:
    model.gain = torch.ones(1, 1, 1, 1, dtype=torch.float64)


def _another_kind(model: nn.Module) -> None:
    del model.gain
    model.gain = nn.Parameter(torch.ones(1, dtype=torch.float64))


def _another_order(model: nn.Module) -> None:
    model.order = model.order.flip(0)


def _untied(model: nn.Module) -> None:
    model.scale = nn.Parameter(model.scale.detach().clone())


def _tied(model: nn.Module) -> None:
    model.bn.bias = model.bn.weight


def _computed(model: nn.Module) -> None:
    parametrizations.weight_norm(model.last)


REFUSED: list[tuple[Callable[[nn.Module], None], str]] = [
    (_another_layer, "last, a Conv2d when the model was traced, is a Conv2d now"),
    (_no_layer, "bn, a BatchNorm2d when the model was traced, is gone"),
    (_another_shape, r"gain had shape \(1,\) when the model was traced and has \(1, 1, 1, 1\) now"),
    (_another_kind, "gain was a buffer when the model was traced and is a parameter now"),
    (_another_order, "order has other values than when the model was traced"),
    (_untied, "scale, tied.0 share other memory than when the model was traced"),
    (_tied, "bn.bias, bn.weight share other memory than when the model was traced"),
    (_computed, "last.weight is gone from the model since that was traced"),
]


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_another_model_is_refused(change: Callable[[nn.Module], None], message: str, frontend: str) -> None:
    model, program, _ = _traced(Net, frontend)
    mask = program.random_mask()
    change(model)
    for ask in (program.compact, program.gated, program.zeroed, program.verify, program.state_dict_map):
        with pytest.raises(ModelChangedError, match=message):
            ask(mask)
    with pytest.raises(ModelChangedError, match=message):
        program.module.eval()


def test_weights_that_are_no_longer_computed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(conv(3, 8)), nn.ReLU(), conv(8, 2))
    program = atofx.trace(model, torch.randn(1, 3, 6, 6))
    parametrize.remove_parametrizations(model[0], "weight")
    with pytest.raises(ModelChangedError, match="trace the model again"):
        program.compact(program.random_mask())
