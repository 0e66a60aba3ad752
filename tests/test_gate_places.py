"""Gates behind norms: where they stand, and that hard masks give the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import atofx
from atofx import zoo
from atofx.gates import ChannelGate
from atofx.testing import relative_error
from tests import invariants
from tests.models import FAMILIES


def gated_nodes(program: atofx.Program) -> list[str]:
    """What stands right before every gate."""
    module = program.gated(places="norms")
    assert isinstance(module, torch.fx.GraphModule)
    return [
        str(node.args[0].target)
        for node in module.graph.nodes
        if node.op == "call_module" and isinstance(module.get_submodule(node.target), ChannelGate)
    ]


def test_a_basic_block_is_gated_behind_its_first_norm_and_the_stream_where_it_is_read() -> None:
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8))
    names = gated_nodes(program)
    assert [name for name in names if "bn" in name] == [f"layer{s}.{b}.bn1" for s in (1, 2, 3) for b in (0, 1, 2)]
    assert len(names) == 9 + 9 + 1  # the stream before every first convolution, and before the classifier


def test_every_convolution_of_vgg_is_gated_behind_its_norm() -> None:
    program = atofx.trace(zoo.vgg16_bn(), torch.randn(1, 3, 32, 32))
    names = gated_nodes(program)
    module = program.module
    assert len(names) == 13
    assert all(isinstance(module.get_submodule(name), nn.BatchNorm2d) for name in names)


def test_depthwise_convolutions_are_gated_behind_the_norm_that_follows() -> None:
    program = atofx.trace(zoo.mobilenetv2(), torch.randn(1, 3, 8, 8))
    assert next(name for name in gated_nodes(program) if name.startswith("features.4.")) == "features.4.conv.4"


class Soft(nn.Module):
    """A norm, ReLU6, and a convolution that reads it: worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU6()
        self.out = nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.norm(self.conv(x))))


def test_soft_gates_act_before_the_activation() -> None:
    model = Soft().eval()
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor([8.0, 8.0]).reshape(2, 1, 1, 1))
        model.conv.bias.zero_()
        model.out.weight.fill_(1.0)
        model.norm.eps = 0.0
    program = atofx.trace(model, torch.ones(1, 1, 1, 1))
    mask = {"conv": torch.tensor([0.5, 1.0])}
    for places, expected in (("norms", 4.0 + 6.0), ("consumers", 3.0 + 6.0)):
        assert float(program.gated(mask, places=places)(torch.ones(1, 1, 1, 1)).detach()) == pytest.approx(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_hard_masks_give_the_same(family: str) -> None:
    compared = 0
    for case in FAMILIES[family]:
        if not case.may_refuse and "eval" in case.modes:
            torch.manual_seed(1)
            program = atofx.trace(case.build().double().eval(), case.inputs(2))
            assert error_of_hard_gates(program) <= 1e-9, case.name
            compared += bool(program.prunable)
    assert compared


@pytest.mark.parametrize("build", [models.mobilenet_v3_small, models.densenet121, models.efficientnet_b0])
def test_hard_masks_give_the_same_in_classifiers(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    program = atofx.trace(build().double().eval(), torch.randn(1, 3, 32, 32).double())
    assert program.prunable
    assert error_of_hard_gates(program) <= 1e-9


def error_of_hard_gates(program: atofx.Program) -> float:
    """Relative difference of gates behind norms from zeroed producers; on copies, as some nets change as they run."""
    mask, inputs = program.random_mask(0.5), program.example_inputs
    modules = program.gated(mask, places="norms"), program.zeroed(mask)
    results = [invariants.call(copy.deepcopy(module), inputs) for module in modules]
    return relative_error(*results)


class Reshaped(nn.Module):
    """Channels and pixels are read in other rows, in which units lie along one dimension and ids along two."""

    def __init__(self, channels: int, shape: tuple[int, int, int], done) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.shape, self.done = shape, done

    def forward(self, x):
        return self.done(torch.relu(self.conv(x)).reshape(-1, *self.shape))


@pytest.mark.parametrize(("channels", "shape", "units"), [(4, (6, 2, 3), 2), (8, (6, 4, 3), 2), (6, (2, 9, 3), 3)])
@pytest.mark.parametrize("done", [lambda y: y.mean(), lambda y: y.mean((1, 2, 3)), lambda y: y.amax((1, 2, 3))])
def test_units_along_fewer_dimensions_than_ids(channels, shape, units, done):
    torch.manual_seed(0)
    program = atofx.trace(Reshaped(channels, shape, done).double(), torch.randn(2, 3, 3, 3).double())
    assert [group.size for group in program.prunable] == [units]
    report = program.verify(program.random_mask(keep=0.5, seed=0))
    assert report.ok, str(report)


def test_no_gate_where_ids_along_two_dimensions_are_one_unit():
    torch.manual_seed(0)
    program = atofx.trace(Reshaped(2, (3, 2, 3), lambda y: y.mean((1, 2, 3))), torch.randn(2, 3, 3, 3))
    assert not program.prunable
    assert not [name for name, _ in program.gated().named_modules() if name.startswith("gate_")]
