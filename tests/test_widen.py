"""``Program.widen``: the same architecture, wider; as its own constructor would have made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import atofx
from atofx import zoo
from atofx.cost import count_flops
from atofx.errors import ConfigError
from atofx.nn import renew_
from atofx.ops.resize import places, repeated
from atofx.zoo import VGG
from tests.models import FAMILIES

# A width that is written where no rule sees it, and a range that is as long as its input.
REFUSED = {"spelled_repeat_to_a_width", "range_from_size"}
# Numbers 0, 1, 2, … are repeated with their channels, so those that are told apart by them are other ones; and what was
# a constant of the model is a buffer of the wider one, which may be set to zero.
OTHER_GROUPS = {"range_literal", "tokens_identity_matrix", "added_constant", "added_integers", "filled_by_constant"}
# Every call changes what the next one gives.
STATEFUL = {"running_average_by_hand"}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def predicted(program: atofx.Program, sizes: Mapping[str, int]) -> int:
    return int(program.flops_by_counts(torch.tensor([[sizes[group.name] for group in program.prunable]])))


def check(model: nn.Module, image: Tensor, factors: float | Mapping[str, float]) -> nn.Module:
    """Widen, count, trace again, run forward and backward."""
    program = atofx.trace(model, image)
    before = shapes(model)
    wide, sizes = program.widen(factors), program.widened_sizes(factors)
    assert shapes(model) == before
    assert count_flops(wide, (image,)) == predicted(program, sizes)
    again = atofx.trace(wide, image)
    assert {group.name: group.size for group in again.prunable} == sizes
    assert again.flops() == predicted(program, sizes)
    wide.train()
    wide(torch.cat([image, image])).sum().backward()
    assert all(parameter.grad is not None for parameter in wide.parameters())
    return wide


CASES: dict[str, tuple[Callable[[], nn.Module], float | Mapping[str, float], Callable[[], nn.Module] | None]] = {
    "resnet18": (models.resnet18, 1.25, None),
    "resnet18 by 1": (models.resnet18, 1.0, models.resnet18),
    "inner widths": (models.resnet50, {"layer*.conv1": 2, "layer*.conv2": 2}, models.wide_resnet50_2),
    "depthwise": (models.mobilenet_v2, 2.0, lambda: models.mobilenet_v2(width_mult=2.0)),
    "grouped": (models.resnext50_32x4d, {"layer*.conv1": 2}, lambda: _resnext(64, 4)),
    "concatenated": (models.densenet121, 1.5, lambda: models.DenseNet(48, (6, 12, 24, 16), 96)),
    "chain": (zoo.vgg16_bn, 1.25, lambda: VGG(tuple(c and c * 5 // 4 for c in _VGG16))),
    "padded shortcuts": (zoo.resnet20, 2.0, None),
}
_VGG16 = (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512, None)


def _resnext(groups: int, width: int) -> nn.Module:
    return models.ResNet(models.resnet.Bottleneck, [3, 4, 6, 3], groups=groups, width_per_group=width)


@pytest.mark.parametrize("name", CASES)
def test_as_the_constructor_would_have_made_it(name: str) -> None:
    build, factors, reference = CASES[name]
    wide = check(build(), torch.randn(1, 3, 32, 32), factors)
    if reference is not None:
        assert shapes(wide) == shapes(reference())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("factor", [1.5, 2.0])  # some units are repeated; all are, equally often
def test_every_difficulty(family: str, factor: float) -> None:
    for case in FAMILIES[family]:
        if case.may_refuse:
            continue
        program = atofx.trace(case.build().double().eval(), case.inputs(2))
        if case.name in REFUSED:
            with pytest.raises(ConfigError, match="cannot be widened like that"):
                program.widen(factor)
            continue
        sizes = program.widened_sizes(factor)
        again = atofx.trace(program.widen(factor), program.example_inputs)
        if case.name not in OTHER_GROUPS:
            assert {group.name: group.size for group in again.prunable} == sizes, case.name
        assert again.flops() == predicted(program, sizes), case.name
        if factor == 1.5 and case.name not in STATEFUL:
            assert again.verify(again.random_mask()).ok, case.name


def test_sizes_are_cut_to_whole_units_and_the_last_pattern_holds() -> None:
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8))
    sizes = program.widened_sizes({"*": 1.3, "layer3": 2, "layer3.0.conv1": 1})
    assert sizes["conv1"] == 20  # 16 * 1.3 = 20.8
    assert sizes["layer3.1.conv1"] == 128
    assert sizes["layer3.0.conv1"] == 64
    exact = program.widened_sizes({"conv1": 80 / 64, "layer1.0.conv1": 49 / 16})
    assert (exact["conv1"], exact["layer1.0.conv1"], exact["layer2.0.conv1"]) == (20, 49, 32)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (0.5, r"factors of 1 and more, not 0\.5"),
        ({"layer1": float("inf")}, r"not inf \('layer1'\)"),
        ({"layr1": 2.0}, "no prunable group matches 'layr1'; the nearest is 'layer1"),
    ],
)
def test_what_is_refused(factors: float | Mapping[str, float], message: str) -> None:
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8))
    with pytest.raises(ConfigError, match=message):
        program.widen(factors)


def test_weights_are_drawn_by_the_seed_alone() -> None:
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8))
    state = torch.get_rng_state()
    first, second, other = (program.widen(1.5, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["layer1.0.conv1.weight"], other["layer1.0.conv1.weight"])


class Scaled(nn.Module):
    """Parameters of no layer: a constant one and a drawn one; and a norm without any."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.token = nn.Parameter(torch.full((8,), 0.1)), nn.Parameter(torch.randn(8) * 3 + 5)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)) * self.scale[:, None, None]).mean((2, 3))
        return self.head(x * self.token)


def test_parameters_of_no_layer() -> None:
    model = Scaled().eval()
    model.norm.running_mean += 1
    wide = atofx.trace(model, torch.randn(2, 3, 8, 8)).widen(50).eval()
    assert bool((wide.get_parameter("scale") == 0.1).all())
    token = wide.get_parameter("token").detach()
    assert token.shape == (400,)
    assert float(token.mean()) == pytest.approx(float(model.token.detach().mean()), abs=0.5)
    assert float(token.std()) == pytest.approx(float(model.token.detach().std()), rel=0.2)
    assert token.unique().numel() == 400
    assert not wide.get_buffer("norm.running_mean").any()
    assert not wide.training


def test_he_initialisation() -> None:
    model = nn.Sequential(nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Linear(6, 4))
    renew_(model, seed=3, init="he")
    assert float(model[0].weight.std()) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    before = model[2].weight.clone()
    renew_(model, seed=3)
    assert not torch.equal(model[2].weight, before)
    assert float(model[0].weight.std()) == pytest.approx((1 / (3 * 9 * 64)) ** 0.5, rel=0.02)  # torch's own


def test_places() -> None:
    kept = repeated(torch.tensor([2, 0, 1, 3]))
    assert kept.tolist() == [0, 0, 2, 3, 3, 3]
    assert places(kept, 4, torch.tensor([3, 1, 0])).tolist() == [3, 4, 5, 0, 1]
