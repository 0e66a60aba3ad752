"""freeze= and only=: what a user excludes stays whole, under the same group names, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import atofx
from atofx import zoo
from atofx.errors import ConfigError, MaskError, TargetError
from atofx.ir.patterns import covers
from tests import invariants
from tests.generator import net_of_seed


class Net(nn.Module):
    """Two convolutions on one stream, a third after it, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1))
        self.last = nn.Conv2d(8, 10, 1)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.last(x + self.block(x)))
        return self.head(x.mean((2, 3)))


def trace(**options) -> atofx.Program:
    torch.manual_seed(0)
    return atofx.trace(Net().eval(), torch.randn(2, 3, 6, 6), **options)


def prunable(**options) -> set[str]:
    return {group.name for group in trace(**options).prunable}


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("layer4", "layer4.0.conv1.weight", True),
        ("layer4.*", "layer4.0.conv1.weight", True),
        ("layer?.0", "layer4.0.conv1.weight", True),
        ("*.conv1", "layer4.0.conv1.weight", True),
        ("*.bias", "layer4.0.bn1.bias", True),
        ("conv1", "layer4.0.conv1.weight", False),
        ("layer4.*", "layer4", False),
        ("layer", "layer4.0.conv1.weight", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, name: str, expected: bool) -> None:
    assert covers(pattern, name) == expected


def test_nothing_asked_nothing_changed() -> None:
    assert prunable() == {"stem", "block.0", "last"}


@pytest.mark.parametrize(
    ("freeze", "left"),
    [
        ("block.0", {"last"}),  # its rows are one group, its columns the stream
        (("block.2.bias",), {"block.0", "last"}),
        ("norm.running_mean", {"block.0", "last"}),
        ("head.weight", {"stem", "block.0"}),
        ("head.bias", {"stem", "block.0", "last"}),  # pinned anyway
        ("*", set()),
        (["block", "last.bias"], set()),
    ],
)
def test_freeze(freeze, left: set[str]) -> None:
    assert prunable(freeze=freeze) == left


@pytest.mark.parametrize(
    ("only", "left"),
    [
        ("block", {"block.0"}),
        (("stem", "norm", "block"), {"stem", "block.0"}),
        (("stem", "norm"), set()),  # block.2 produces the stream too
        (("last.*",), {"last"}),
        ("last.weight", set()),  # its bias produces the same channels
        ("head", set()),
    ],
)
def test_only(only, left: set[str]) -> None:
    assert prunable(only=only) == left


def test_freeze_goes_before_only() -> None:
    assert prunable(only=("block", "last"), freeze="last.bias") == {"block.0"}


def test_reasons_are_visible() -> None:
    program = trace(freeze="stem.*", only=("stem", "norm", "block", "head"))
    reasons = {group.name: group.reason for group in program.groups}
    assert reasons["stem"] == "frozen by freeze='stem.*', which covers stem.weight"
    assert reasons["last"] == "outside of only='stem', 'norm', 'block', 'head': last.weight produces these channels too"
    assert "reaches the model's output" in (reasons["head"] or "")  # the reason it had
    assert "frozen by freeze='stem.*'" in program.summary()
    assert "outside of only=" in program.summary()
    assert "frozen by freeze='stem.*'" in program.explain("block.2.weight")
    assert "What helps: trace without that pattern" in program.explain("stem.weight")
    assert "What helps: add a pattern that covers" in program.explain("last.weight")


def test_groups_are_those_of_the_unrestricted_program() -> None:
    whole, part = trace(), trace(freeze="stem")
    assert {g.name: g.size for g in whole.groups} == {g.name: g.size for g in part.groups}
    assert [g.prunable for g in part.groups] == sorted((g.prunable for g in part.groups), reverse=True)
    mask = part.random_mask(0.5)
    same = atofx.Mask({**whole.full_mask(), **mask})
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(part.compact(mask)(x), whole.compact(same)(x))
    with pytest.raises(MaskError, match=r"lacks the groups stem.*trace with the freeze= and only="):
        whole.compact(mask)


def test_a_tied_tensor_is_frozen_by_any_of_its_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 2)
            self.second = nn.Linear(4, 6)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.first(x)) + torch.relu(self.second(x)))

    for pattern in ("first.weight", "second.weight"):
        assert atofx.trace(Tied(), torch.randn(2, 4), freeze=pattern).prunable == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "stm.*"}, r"no parameter, buffer or module \(freeze=\) matches 'stm\.\*'; the nearest is 'stem'"),
        ({"only": ["block", "blok.0"]}, r"\(only=\) matches 'blok\.0'; the nearest is 'block\.0'"),
        ({"freeze": "block.1"}, "matches 'block.1'"),  # a ReLU: nothing to freeze
        ({"only": ()}, "only= holds no pattern"),
        ({"freeze": [3]}, "freeze= takes patterns on names"),
    ],
)
def test_errors_teach(options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trace(**options)


def test_a_saved_model_is_loaded_with_its_patterns(tmp_path: Path) -> None:
    program = trace(freeze="stem", only=("stem", "block"))
    mask = program.random_mask(0.5)
    atofx.save(program, mask, tmp_path / "small.safetensors")
    x = torch.randn(2, 3, 6, 6)
    loaded = atofx.load(tmp_path / "small.safetensors", lambda: Net().eval())
    assert torch.equal(loaded(x), program.compact(mask)(x))


def test_a_frozen_layer_keeps_its_shapes() -> None:
    program = atofx.trace(zoo.build("resnet20").eval(), torch.randn(1, 3, 32, 32), freeze=("layer2.*.conv1", "fc"))
    mask = program.random_mask(0.3)
    small = dict(program.compact(mask).named_parameters())
    frozen = [name for name, _ in program.module.named_parameters() if covers("layer2.*.conv1", name)]
    assert len(frozen) >= 3
    assert all(torch.equal(small[name], program.tensor(name)) for name in frozen)
    assert program.params(mask) < program.params()
    assert program.verify(mask).ok


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_random_nets(number: int, source) -> None:
    """Whatever is frozen keeps shape and values, what is outside of only= is not produced; the rest stays exact."""
    net, inputs = net_of_seed(number)
    net.double()
    x = inputs(2)
    names = [name for name, _ in [*net.named_parameters(), *net.named_buffers()]]
    assume(len(names) >= 2)
    try:
        whole = invariants.trace(net, x).program
    except invariants.UnsuitableError:
        assume(False)
    freeze = source.sample(names, source.randint(0, 2))
    only = [name.rpartition(".")[0] for name in source.sample(names, (len(names) + 1) // 2)] or None
    program = atofx.trace(net, x, freeze=freeze, only=only)
    assert {g.name: g.size for g in program.groups} == {g.name: g.size for g in whole.groups}
    assert {g.name for g in program.prunable} <= {g.name for g in whole.prunable}
    mask = program.random_mask(0.4, seed=number)
    kept = program.state_dict_map(mask)
    for name in freeze:
        assert all(
            index is None or len(index) == size
            for index, size in zip(kept[name].kept, program.tensor(name).shape, strict=True)
        )
    for group in program.prunable:
        for member in group.members:
            assert member.name not in freeze
            assert member.role == "consumer" or any(covers(pattern, member.name) for pattern in only or ["*"])
    assert program.verify(mask).ok


def test_nothing_left_to_prune_is_an_error() -> None:
    program = atofx.trace(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(2, 3), freeze="0")
    with pytest.raises(TargetError, match="no group may be pruned"):
        atofx.methods.oneshot(program, flops=0.5)
