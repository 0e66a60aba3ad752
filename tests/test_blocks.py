"""Residual blocks that can be left out: what is found, what is refused and why, and that nothing else changes."""

from __future__ import annotations

import copy
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision import models

import atofx
from atofx import zoo
from atofx.cost import count_flops
from atofx.errors import ConfigError, FileError
from atofx.testing import relative_error


def image(size: int = 8, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def traced(model: nn.Module, x: Tensor) -> atofx.Program:
    torch.manual_seed(0)
    model = model.double().eval()
    for module in model.modules():  # fresh norms would let wrong statistics pass
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return atofx.trace(model, x)


def silenced(program: atofx.Program, names: Sequence[str]) -> nn.Module:
    """The whole graph with the branches of these blocks multiplied by zero."""
    module = copy.deepcopy(program.module)
    assert isinstance(module, fx.GraphModule)
    nodes = {node.name: node for node in module.graph.nodes}
    for block in program.blocks.skippable:
        if block.name in names:
            add, branch = nodes[block.add.name], nodes[block.branch.name]
            with module.graph.inserting_before(add):
                zero = module.graph.call_function(operator.mul, (branch, 0.0))
            add.replace_input_with(branch, zero)
    module.recompile()
    return module


def names_of(program: atofx.Program) -> list[str]:
    return [block.name for block in program.blocks.skippable]


def error_without(program: atofx.Program, names: Sequence[str]) -> float:
    x = program.example_inputs
    assert isinstance(x, Tensor)
    with torch.no_grad():
        return relative_error(program.without_blocks(names).module(x.clone()), silenced(program, names)(x.clone()))


class PreActivation(nn.Module):
    """Norm, activation in place and convolution, twice, in every branch; no activation behind the sums."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, padding=1, bias=False))
            for _ in range(blocks)
        )
        self.norm, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(x)
        out: Tensor = self.fc(F.relu(self.norm(x)).mean((2, 3)))
        return out


CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet20": (zoo.resnet20, 8),
    "pre-activation": (PreActivation, 8),
    "mobilenet_v2": (models.mobilenet_v2, 32),
    "efficientnet_b0": (models.efficientnet_b0, 32),
    "convnext_tiny": (models.convnext_tiny, 32),
    "resnet50": (models.resnet50, 32),
    "vit": (lambda: models.VisionTransformer(32, 16, 3, 4, 16, 32, num_classes=5), 32),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_without_blocks_is_the_network_with_their_branches_at_zero(name: str) -> None:
    build, size = CLASSIFIERS[name]
    program = traced(build(), image(size))
    names = names_of(program)
    assert len(names) >= 3
    for chosen in (names[:1], names[1::2], names):
        assert error_without(program, chosen) <= 1e-9, chosen
    small = program.without_blocks(names[1::2])
    kept = small.random_mask(0.5)
    assert small.verify(kept).ok
    gone = dict.fromkeys(names[1::2], False)
    assert program.flops(blocks=gone) == small.flops() == count_flops(small.module, image(size))
    assert small.params() < program.params()
    assert not [key for key in small.module.state_dict() if key.startswith(f"{names[1]}.")]


def test_the_blocks_and_stages_of_resnet20() -> None:
    program = traced(zoo.resnet20(), image())
    assert names_of(program) == ["layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2"]
    first, second, third = program.blocks.stages
    assert [stage.name for stage in program.blocks.stages] == ["layer1", "layer2", "layer3"]
    assert (first.has_head, second.has_head, third.has_head) == (False, True, True)
    assert first.depths == second.depths == (1, 2, 3)
    assert (first.kept_blocks(1), second.kept_blocks(1)) == (1, 0)
    assert [refused.node for refused in program.blocks.refused] == ["add_3", "add_6"]
    lines = str(program.blocks).splitlines()
    assert lines[0] == f"can be left out: {program.blocks.skippable[0].name}"
    assert f"stage layer1: {', '.join(block.name for block in first.blocks)}; depths {first.depths}" in lines
    assert lines[-1].startswith("cannot: add_6: neither of the two values")
    assert all("the skip is not an identity" in refused.reason for refused in program.blocks.refused)


def test_activations_are_not_applied_twice() -> None:
    program = traced(zoo.resnet20(), image())
    module = program.without_blocks(names_of(program)).module
    assert isinstance(module, fx.GraphModule)
    calls = [node for node in module.graph.nodes if node.op in ("call_function", "call_module")]
    assert not any(b.all_input_nodes[0].target == b.target for b in calls if b.target is F.relu)
    assert not any(node.target is torch.clone for node in calls)


class Net(nn.Module, ABC):
    """A convolution, then whatever, then a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.f, self.g = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.norm, self.out = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.middle(self.stem(x)))
        return out

    @abstractmethod
    def middle(self, x: Tensor) -> Tensor:
        """What is between the two."""


class Projection(Net):
    def middle(self, x: Tensor) -> Tensor:
        return self.f(x) + self.g(x)


class ReadOutside(Net):
    def middle(self, x: Tensor) -> Tensor:
        inner = F.relu(self.f(x))
        return (x + self.g(inner)) * inner.mean()


class ReadsMore(Net):
    def middle(self, x: Tensor) -> Tensor:
        y = F.relu(x)
        return y + self.f(y) * x


class Broadcast(Net):
    def middle(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=True)
        return y + self.f(y).expand(-1, -1, 8, 8)


class ChangesTheSkip(Net):
    def middle(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return y + self.f(F.relu(y, inplace=True))


class ChangesAView(Net):
    def middle(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return y + self.f(y[:, :2].mul_(2).repeat(1, 2, 1, 1))


class Twice(Net):
    def middle(self, x: Tensor) -> Tensor:
        return x + x


class Scaled(Net):
    def middle(self, x: Tensor) -> Tensor:
        return torch.add(x, self.f(x), alpha=2)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Projection, "the skip is not an identity"),
        (ReadOutside, "relu, computed in the branch, is read by mean outside of it"),
        (ReadsMore, "the branch also reads stem, which is not computed from relu"),
        (Broadcast, r"the sum is (2, 4, 8, 8) of float64, the value that enters (2, 4, 1, 1) of float64"),
        (ChangesTheSkip, "the branch changes norm, a value from outside, in place (relu)"),
        (ChangesAView, "a value from outside, in place (mul_)"),
        (Twice, "a value is added to itself"),
    ],
)
def test_what_is_refused_and_why(net: type[Net], reason: str) -> None:
    blocks = traced(net(), image()).blocks
    assert blocks.skippable == ()
    assert blocks.stages == ()
    (refused,) = blocks.refused
    assert reason in refused.reason


def test_a_scaled_sum_is_no_sum() -> None:
    assert traced(Scaled(), image()).blocks.skippable == ()


class WrittenAfterwards(Net):
    """The sum is changed in place, and the value that entered is read once more."""

    def middle(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        z = y + self.f(y)
        z.mul_(3.0)
        return z + self.g(y)


class WrittenBefore(Net):
    """The branch is added to the skip in place."""

    def middle(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y += self.f(y)
        return F.gelu(y) + y


class Nested(Net):
    def middle(self, x: Tensor) -> Tensor:
        inner = self.f(x)
        return x + self.norm(inner + self.g(inner))


class SameLayerTwice(Net):
    def middle(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + self.f(x)
        return x


class Silu(Net):
    """An activation behind the sums that does change something when it is applied again."""

    def middle(self, x: Tensor) -> Tensor:
        return F.silu(F.silu(x + self.f(x)) + self.g(F.silu(x)))


class SizesOfTheSkip(Net):
    """A size of the value that enters is read in the branch and after the block."""

    def middle(self, x: Tensor) -> Tensor:
        batch, width = x.shape[0], x.shape[1]
        y = x + self.f(x).reshape(batch, width, -1).reshape(x.shape)
        return y.reshape(batch, width, -1).unflatten(2, (8, 8))


@pytest.mark.parametrize("net", [WrittenAfterwards, WrittenBefore, Nested, SameLayerTwice, SizesOfTheSkip])
def test_small_nets_with_one_difficulty_each(net: type[Net]) -> None:
    program = traced(net(), image())
    names = names_of(program)
    assert names
    assert len(set(names)) == len(names)
    for chosen in [*([name] for name in names), names]:
        assert error_without(program, chosen) <= 1e-9, chosen
        small = program.without_blocks(chosen)
        assert small.flops() == program.flops(blocks=dict.fromkeys(chosen, 0.0))
        assert small.verify(small.random_mask(0.5)).ok


def test_the_reused_layer_stays_for_its_other_call() -> None:
    program = traced(SameLayerTwice(), image())
    first, _ = names_of(program)
    assert "f.weight" in program.without_blocks([first]).module.state_dict()


def test_a_stage_ends_where_an_activation_would_count_twice() -> None:
    program = traced(Silu(), image())
    assert all(len(stage.blocks) == 1 for stage in program.blocks.stages)


def test_soft_blocks_scale_the_flops_and_have_gradients() -> None:
    # ResNet-20 at 8 x 8: the last stage has 2 x 2 pixels, a block 2 convolutions of 9 x 64 x 64 and norms of 2 x 64.
    program = traced(zoo.resnet20(), image())
    share = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    flops = program.flops(blocks={"layer3.2": share})
    gone = program.flops() - program.flops(blocks={"layer3.2": False})
    convolutions = 2 * 2 * 2 * 2 * 9 * 64 * 64  # batch, pixels, pixels, convolutions
    assert gone > convolutions
    assert float(flops.detach()) == pytest.approx(program.flops() - 0.75 * gone)
    (gradient,) = torch.autograd.grad(flops, [share])
    assert float(gradient) == pytest.approx(gone)
    with pytest.raises(ConfigError, match=r"no block 'layer3' can be left out; the nearest is 'layer3\.\d'"):
        program.flops(blocks={"layer3": 0.0})


def test_unknown_names_are_refused() -> None:
    program = traced(zoo.resnet20(), image())
    with pytest.raises(ConfigError, match=r"no block 'layer2\.0' can be left out; the nearest is 'layer2\.\d'"):
        program.without_blocks(["layer2.0"])
    with pytest.raises(ConfigError, match="no block 'x' can be left out; the model has none"):
        traced(zoo.vgg16_bn(), image(32)).without_blocks(["x"])


def test_patterns_that_cover_nothing_any_more_have_no_effect() -> None:
    freeze = ["layer1.1", "layer2.0.conv1"]
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8), freeze=freeze, only=["layer*"])
    small = program.without_blocks(["layer1.1"])
    covered = {member.name for group in small.prunable for member in group.members if member.role == "producer"}
    assert {"layer1.0.conv1.weight", "layer2.1.conv1.weight"} <= covered
    assert not covered & {"layer2.0.conv1.weight", "conv1.weight"}
    assert small.options == replace(program.options, without=(("layer1.1",),))


@pytest.mark.parametrize("regions", [False, True])
def test_files_are_read_with_the_whole_model(tmp_path: Path, regions: bool) -> None:
    factory = Branching if regions else PreActivation
    program = traced(factory(), image())
    name = "body.branches.{}" if regions else "branches.{}"
    small = program.without_blocks([name.format(0)]).without_blocks([name.format(2)])
    mask = small.random_mask()
    atofx.save(small, mask, tmp_path / "small.safetensors")
    module = atofx.load(tmp_path / "small.safetensors", lambda: factory().double())
    with torch.no_grad():
        assert torch.equal(module(image()), small.compact(mask)(image()))
    with pytest.raises(FileError, match=r"(leaves out blocks|holds regions) of another model than the one given"):
        atofx.load(tmp_path / "small.safetensors", lambda: zoo.resnet20(in_channels=image().shape[1]).double())


class Branching(nn.Module):
    """Cannot be traced whole: its residual body is a region."""

    def __init__(self) -> None:
        super().__init__()
        self.body = PreActivation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out if float(out.sum()) > 1e9 else out * 2


def test_regions_lose_blocks_too() -> None:
    model = Branching()
    program = traced(model, image())
    assert program.frontend == "regions"
    names = names_of(program)
    assert names == ["body.branches.0", "body.branches.1", "body.branches.2"]
    body = atofx.trace(model.body, image())
    small = program.without_blocks(names[1:])
    with torch.no_grad():
        expected = 2 * silenced(body, [name.removeprefix("body.") for name in names[1:]])(image())
        assert relative_error(small.module(image()), expected) <= 1e-9
    assert not isinstance(small.module, fx.GraphModule)
    assert small.flops() == program.flops(blocks=dict.fromkeys(names[1:], False))
