"""Mixtures of widths and depths: by hand, and that one width and one depth give the masked, shallower network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

import atofx
from atofx import zoo
from atofx.errors import ConfigError, InputSizeError
from atofx.gates import WidthMixture, Widths, channel_interpolation
from atofx.testing import relative_error
from tests.test_blocks import Branching, PreActivation, image, traced


@pytest.mark.parametrize(
    ("have", "size", "expected"),
    [
        ([1.0, 3.0], 3, [1.0, 2.0, 3.0]),  # windows [0, 1), [0, 2), [1, 2)
        ([1.0, 3.0], 4, [1.0, 1.0, 3.0, 3.0]),
        ([2.0, 4.0, 8.0], 4, [2.0, 3.0, 6.0, 8.0]),
        ([5.0], 3, [5.0, 5.0, 5.0]),
        ([1.0, 2.0, 3.0], 3, [1.0, 2.0, 3.0]),
    ],
)
def test_interpolation_by_hand(have: list[float], size: int, expected: list[float]) -> None:
    x = torch.tensor(have).reshape(1, -1, 1, 1).expand(2, -1, 3, 1)
    assert torch.equal(channel_interpolation(x, size)[1, :, 2, 0], torch.tensor(expected))


@pytest.mark.parametrize(("have", "size"), [(4, 6), (19, 57), (44, 64), (25, 32), (7, 7)])
def test_interpolation_is_adaptive_average_pooling(have: int, size: int) -> None:
    x = torch.randn(2, have, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pooled = F.adaptive_avg_pool1d(x.transpose(1, 2), size).transpose(1, 2)
    assert torch.allclose(channel_interpolation(x, size), pooled, atol=1e-14)
    runs = channel_interpolation(x.reshape(2, -1), size, dim=-1, run=5)
    assert torch.allclose(runs.reshape(2, size, 5), pooled, atol=1e-14)


def test_interpolation_only_widens() -> None:
    with pytest.raises(ValueError, match="4 channels are interpolated to as many or more, not to 3"):
        channel_interpolation(torch.zeros(1, 4), 3)


class Tiny(nn.Module):
    """A convolution of one pixel and two channels, a norm, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2, eps=1e-12)
        self.out = nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.norm(self.conv(x)))
        return out


def test_a_mixture_of_two_widths_by_hand() -> None:
    # The convolution gives (3, 5) for x = 1. Width 1: its norm doubles: 6, interpolated to (6, 6). Width 2: its norm
    # adds 1: (4, 6). A quarter of the first and three of the second: (4.5, 6); the last layer adds 1 and 10 of them.
    model = Tiny().eval()
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor([3.0, 5.0]).reshape(2, 1, 1, 1))
        model.out.weight.copy_(torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1))
    mixed = atofx.trace(model, torch.ones(1, 1, 1, 1)).mixed({"conv": (1, 2)})
    norms = [module for module in mixed.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [1, 2]
    with torch.no_grad():
        norms[0].weight.fill_(2.0)
        norms[1].bias.fill_(1.0)
    weights = torch.tensor([0.25, 0.75], requires_grad=True)
    mixed.choose({"conv": Widths((1, 2), weights)}, {})
    value = mixed(torch.ones(1, 1, 1, 1)).sum()
    assert float(value.detach()) == pytest.approx(4.5 + 60.0)
    (gradient,) = torch.autograd.grad(value, [weights])
    assert gradient.tolist() == pytest.approx([66.0, 64.0])
    mixed.choose({"conv": Widths((1,), torch.ones(1))}, {})
    assert float(mixed(torch.ones(1, 1, 1, 1)).sum().detach()) == pytest.approx(6.0)


def test_every_width_has_statistics_of_its_own() -> None:
    program = atofx.trace(Tiny().train(), torch.ones(1, 1, 1, 1))
    mixed = program.mixed({"conv": (1, 2)}).train()
    narrow, wide = (module for module in mixed.modules() if isinstance(module, nn.BatchNorm2d))
    mixed.choose({"conv": Widths((1,), torch.ones(1))}, {})
    mixed(torch.randn(4, 1, 2, 2))
    assert narrow.running_mean is not None
    assert wide.running_mean is not None
    assert bool(narrow.running_mean.any())
    assert not bool(wide.running_mean.any())


class Chain(nn.Module):
    """No norms: a group is mixed before the layer that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(torch.sigmoid(self.b(F.relu(self.a(x)))))
        return out


def test_without_norms_the_reader_gets_the_mixture() -> None:
    torch.manual_seed(0)
    model, x = Chain().double(), torch.randn(5, 3, dtype=torch.float64)
    mixed = atofx.trace(model, x).mixed({"a": (3, 5, 8)})
    mixed.choose({"a": Widths((3, 5), torch.tensor([0.3, 0.7], dtype=torch.float64))}, {})
    with torch.no_grad():
        hidden = F.relu(model.a(x))
        part = 0.3 * channel_interpolation(hidden[:, :3], 5) + 0.7 * hidden[:, :5]
        expected = model.c(torch.sigmoid(model.b(F.pad(part, (0, 3)))))
        assert relative_error(mixed(x), expected) <= 1e-12


def narrow(size: int) -> int:
    return max(1, math.ceil(size * 0.4))


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet20": (zoo.resnet20, 8),
    "vgg16_bn": (zoo.vgg16_bn, 32),
    "pre-activation": (PreActivation, 8),
    "mobilenet_v2": (models.mobilenet_v2, 32),
    "efficientnet_b0": (models.efficientnet_b0, 32),
    "densenet": (lambda: models.DenseNet(4, (2, 3), 8, num_classes=5), 32),
    "shufflenet": (models.shufflenet_v2_x0_5, 32),
    "convnext_tiny": (models.convnext_tiny, 32),
    "vit": (lambda: models.VisionTransformer(32, 16, 3, 4, 16, 32, num_classes=5), 32),
    "regions": (Branching, 8),
}


@pytest.mark.parametrize("name", NETS)
def test_one_width_and_depth_is_the_masked_network_without_blocks(name: str) -> None:
    build, size = NETS[name]
    x = image(size)
    program = traced(build(), x)
    widths = {group.name: tuple(sorted({narrow(group.size), group.size})) for group in program.prunable}
    depths = {stage.name: tuple(sorted({stage.depths[0], stage.depths[-1]})) for stage in program.blocks.stages}
    assert widths
    mixed = copy.deepcopy(program.mixed(widths, depths)).eval()
    one = torch.ones(1, dtype=torch.float64)
    chosen = {name: Widths((counts[0],), one) for name, counts in widths.items()}
    mask = {g.name: torch.arange(g.size) < widths[g.name][0] for g in program.prunable}
    with torch.no_grad():
        assert relative_error(mixed(x), program.module(x)) <= 1e-9
        mixed.choose(chosen, {})
        assert relative_error(mixed(x), program.zeroed(mask)(x)) <= 1e-9
        first = {name: F.one_hot(torch.tensor(0), len(d)).double() for name, d in depths.items()}
        mixed.choose({}, first)
        cut = [b.name for s in program.blocks.stages for b in s.blocks[s.kept_blocks(s.depths[0]) :]]
        assert relative_error(mixed(x), program.without_blocks(cut).module(x)) <= 1e-9


def test_gradients_reach_the_weights_and_in_place_operations_do_no_harm() -> None:
    program = traced(zoo.resnet20(), image())
    widths = {group.name: (narrow(group.size), group.size) for group in program.prunable}
    depths = {stage.name: stage.depths for stage in program.blocks.stages}
    mixed = program.mixed(widths, depths).train()
    logits = {name: torch.zeros(2, dtype=torch.float64, requires_grad=True) for name in widths}
    deep = {
        name: torch.full((len(d),), 1 / len(d), dtype=torch.float64, requires_grad=True) for name, d in depths.items()
    }
    mixed.choose({name: Widths(widths[name], logits[name].softmax(0)) for name in widths}, deep)
    loss = mixed(image()).square().sum()
    gradients = torch.autograd.grad(loss, [*logits.values(), *deep.values()])
    assert all(bool(gradient.isfinite().all()) and bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize(
    ("widths", "depths", "message"),
    [
        ({"layer1.0.conv9": (1, 2)}, {}, r"no group 'layer1\.0\.conv9'; the nearest is 'layer1\.0\.conv1'"),
        ({"layer1.0.conv1": (4, 17)}, {}, r"candidates of group 'layer1\.0\.conv1' rise and lie from 1 to 16"),
        ({"layer1.0.conv1": (8, 4)}, {}, "rise and lie from 1 to 16, not"),
        ({}, {"layer4": (1,)}, r"no stage 'layer4'; the nearest is 'layer\d'"),
        ({}, {"layer1": (0, 1)}, "candidates of stage 'layer1' rise and lie from 1 to 3"),
    ],
)
def test_candidates_that_there_are_not(
    widths: dict[str, tuple[int, ...]], depths: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        traced(zoo.resnet20(), image()).mixed(widths, depths)


def test_choices_that_there_are_not() -> None:
    mixed = traced(zoo.resnet20(), image()).mixed({"layer1.0.conv1": (4, 16)}, {"layer1": (1, 3)})
    with pytest.raises(ConfigError, match=r"has the widths \(4, 16\) to choose from, not \(5,\)"):
        mixed.choose({"layer1.0.conv1": Widths((5,), torch.ones(1))}, {})
    with pytest.raises(ConfigError, match=r"2 widths of 'layer1\.0\.conv1' need as many weights"):
        mixed.choose({"layer1.0.conv1": Widths((4, 16), torch.ones(1))}, {})
    with pytest.raises(ConfigError, match=r"stage 'layer1' has the depths \(1, 3\) to choose from, not 3"):
        mixed.choose({}, {"layer1": torch.ones(3)})


def test_a_mixture_before_a_reader_takes_the_size_of_the_example_only() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 3, 1), nn.LazyLinear(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(F.adaptive_avg_pool2d(F.relu(self.conv(x)), 2).flatten(1))
            return out

    model = Flat()
    model(torch.zeros(1, 1, 4, 4))
    mixed = atofx.trace(model, torch.zeros(1, 1, 4, 4)).mixed({"conv": (2, 3)})
    mixed.choose({"conv": Widths((2, 3), torch.tensor([0.5, 0.5]))}, {})
    with torch.no_grad():
        hidden = F.adaptive_avg_pool2d(F.relu(model.conv(torch.ones(1, 1, 4, 4))), 2)
        expected = model.fc((0.5 * channel_interpolation(hidden[:, :2], 3) + 0.5 * hidden).flatten(1))
        assert torch.allclose(mixed(torch.ones(2, 1, 6, 6))[:1], expected, atol=1e-6)
    mixture = next(module for module in mixed.modules() if isinstance(module, WidthMixture))
    with pytest.raises(InputSizeError, match="stands before a tensor of 12 along dim -1, not 5"):
        mixture(torch.zeros(1, 5))
