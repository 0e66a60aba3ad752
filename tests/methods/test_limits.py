"""Every method and criterion under freeze=, only=, minimum widths and rounding: obeyed, on target, exact."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atofx
from atofx import zoo
from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import Limits
from atofx.ir.patterns import covers
from atofx.methods import ATO, Schedule, oneshot, targets
from atofx.methods.calibrate import calibrate
from atofx.methods.criteria import CRITERIA
from atofx.methods.selection import UnitSpace
from tests.methods.nets import Plain, Residual, Task, train
from tests.methods.stub import chain

IMAGE = 64
NETS = {
    "plain": (Plain, 8, ("conv1.bias",), None),
    "residual": (lambda: Residual(64), 8, ("fc",), ("stem", "norm", "blocks")),
    "resnet20": (
        lambda: zoo.build("resnet20"),
        32,
        ("layer3.*.bn1",),
        ("conv1", "bn1", "layer1", "layer2", "layer3"),
    ),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=4), IMAGE, ("features.2",), ("features",)),
    "resnext50": (lambda: torchvision.models.resnext50_32x4d(num_classes=4), IMAGE, ("layer1",), None),
}
#: What each net is pruned with and to; a net of few channels meets few targets in steps of eight.
LIMITS = {
    "plain": (Limits(min_width=4, min_keep=0.25, per_group={"conv2": {"round_to": 2}}), 0.6),
    "residual": (Limits(min_width=4, min_keep=0.2, per_group={"blocks.0": {"round_to": 4}}), 0.5),
    "resnet20": (Limits(min_width=4, round_to=8, per_group={"layer3.*": {"min_keep": 0.4}}), 0.5),
    "mobilenet_v2": (Limits(min_width=16, round_to=8, min_keep=0.2), 0.5),
    "resnext50": (Limits(min_units=4, round_to=8, per_group={"layer4": {"min_keep": 0.3}}), 0.5),
}


@pytest.fixture(scope="module", params=list(NETS))
def case(request):
    build, side, freeze, only = NETS[request.param]
    torch.manual_seed(0)
    program = atofx.trace(build().eval(), torch.randn(2, 3, side, side), freeze=freeze, only=only)
    limits, target = LIMITS[request.param]
    return program, limits, target, (torch.randn(2, 3, side, side), torch.tensor([0, 1])), freeze


def assert_obeyed(program, mask, limits, freeze):
    """The definition, written out a second time: widths, shares, multiples, frozen tensors."""
    program.check_limits(mask, limits)
    for group in program.prunable:
        kept, mine, width = int(mask[group.name].sum()), limits.of(group), group.channels // group.size
        if kept < group.size:
            assert kept >= max(mine.min_units, mine.min_keep * group.size)
            assert kept * width >= mine.min_width
            assert group.channels < 2 * mine.round_to or kept * width % mine.round_to == 0
    small = dict(program.compact(mask).named_parameters())
    frozen = [name for name in small if any(covers(pattern, name) for pattern in freeze)]
    assert frozen
    assert all(small[name].shape == program.tensor(name).shape for name in frozen)


@pytest.mark.parametrize("scope", ["global", "uniform", "traffic"])
@pytest.mark.parametrize("name", list(CRITERIA))
def test_criteria(case, name, scope):
    program, limits, target, batch, freeze = case
    if name == "bn-scale" and not any(isinstance(m, torch.nn.BatchNorm2d) for m in program.module.modules()):
        with pytest.raises(ConfigError, match="needs a norm with a scale in every group"):
            oneshot(program, target, name, limits=limits)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = oneshot(program, target, name, scope=scope, batches=[batch], limits=limits)
    assert_obeyed(program, mask, limits, freeze)
    assert program.flops(mask) / program.flops() == pytest.approx(target, rel=0.01)
    assert mask != program.full_mask()


def test_a_limited_mask_is_exact(case):
    program, limits, target, _, _ = case
    assert program.verify(oneshot(program, target, "random", limits=limits)).ok


def test_ato(case):
    program, limits, target, batch, freeze = case
    method = ATO(program, flops=target, total_steps=8, every=2, steps_per_epoch=1, limits=limits, controller_lr=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            method.step(lr=0.0, batch=batch)
            program.check_limits(method.present_mask(), limits)
    mask = method.mask()
    assert method.frozen
    assert method.controller_steps >= 1
    assert_obeyed(program, mask, limits, freeze)
    assert program.flops(mask) / program.flops() == pytest.approx(target, rel=0.01)
    assert program.verify(mask).ok


def test_training_moves_no_frozen_weight_by_projection():
    """After a run the plain model computes what the compact one does, and frozen layers are as wide as before."""
    torch.manual_seed(0)
    model = Residual().double()
    program = atofx.trace(model, torch.zeros(1, 3, 8, 8, dtype=torch.float64), freeze="blocks.0.bn1.weight")
    limits = Limits(round_to=4, min_keep=0.3)
    method = ATO(program, flops=0.585, total_steps=60, every=5, steps_per_epoch=6, limits=limits)
    task = Task(dtype=torch.float64)
    optimizer = train(model, method, task, 0, 60)
    mask = method.finish(optimizer)
    program.check_limits(mask, limits)
    small, images = program.compact(mask).eval(), task.batch(0)[0]
    torch.testing.assert_close(small(images), model.eval()(images), rtol=1e-9, atol=1e-9)
    assert len(small.get_parameter("blocks.0.conv1.weight")) == len(model.blocks[0].conv1.weight)
    assert bool(model.blocks[0].conv1.weight.flatten(1).norm(dim=1).min() > 0)


def test_the_controller_sees_the_flops_that_limits_leave():
    program = atofx.trace(Plain(), torch.zeros(1, 3, 8, 8))
    limits = Limits(per_group={"conv1": {"min_keep": 1}, "conv2": {"min_keep": 1}, "conv3": {"min_units": 20}})
    method = ATO(program, flops=1.0, total_steps=4, every=1, limits=limits, controller_lr=1.0, schedule=Schedule(0, 0))
    for number in range(2):
        method.step(lr=0.0, batch=Task().batch(number))
        assert method.metrics()["keep_probability"] < 1
        assert method.metrics()["sampled_flops"] == 1


def test_within_by_hand():
    program = chain(10, 20)
    limits = Limits(min_keep=0.5)
    space = UnitSpace(program.groups)
    scores = torch.arange(30.0)
    keep = space.within(torch.zeros(30, dtype=torch.bool), scores, limits.allowed_counts(program.groups))
    assert keep.nonzero().flatten().tolist() == [*range(5, 10), *range(20, 30)]


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0, 1))
def test_within_moves_as_few_units_as_it_must(seed, round_to, min_keep):
    program = chain(16, 7, 40)
    allowed = Limits(round_to=round_to, min_keep=min_keep).allowed_counts(program.groups)
    space, generator = UnitSpace(program.groups), torch.Generator().manual_seed(seed)
    keep, scores = torch.rand(63, generator=generator) < 0.5, torch.randperm(63, generator=generator).double()
    before, after = space.split(keep), space.split(space.within(keep, scores, allowed))
    for name, score in space.split(scores).items():
        old, new = before[name], after[name]
        assert int(new.sum()) in allowed[name].tolist()
        added, removed = new & ~old, old & ~new
        assert not (added.any() and removed.any())
        assert int((added | removed).sum()) == min(abs(int(old.sum()) - count) for count in allowed[name].tolist())
        if added.any() and (~new).any():
            assert score[added].min() > score[~new].max()
        if removed.any():
            assert score[removed].max() < score[new].min()


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from([5, 8, 16, 24, 48, 64]), min_size=1, max_size=6),
    st.sampled_from([1, 4, 8, 16]),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.floats(0.03, 1),
    st.integers(0, 1000),
)
def test_what_the_steps_allow_is_met(sizes, round_to, min_keep, target, seed):
    """Within 1 % wherever any allowed mask is; else a warning, or an error that names the least."""
    program = chain(*sizes)
    limits = Limits(round_to=round_to, min_keep=min_keep)
    allowed = limits.allowed_counts(program.groups)
    every = torch.ones(1, 0, dtype=torch.long)
    for counts in allowed.values():
        every = torch.cat([every.repeat_interleave(len(counts), 0), counts.repeat(len(every))[:, None]], 1)
        if len(every) > 60_000:
            return
    fractions = program.flops_by_counts(every) / program.flops()
    generator = torch.Generator().manual_seed(seed)
    scores = {g.name: torch.rand(g.size, generator=generator) * (1 + seed % 3) for g in program.groups}
    if float(fractions.min()) > target * 1.01:
        with pytest.raises(TargetError, match=f"Ask for flops >= {float(fractions.min()):.4f}"):
            calibrate(program, program.groups, scores, target, limits=limits)
        return
    reachable = bool(((fractions - target).abs() <= 0.01 * target).any())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = calibrate(program, program.groups, scores, target, limits=limits)
    limits.check(program.groups, result.mask)
    assert (abs(result.fraction - target) <= 0.01 * target) == reachable
    assert bool(caught) != reachable
    assert abs(result.fraction - target) <= float((fractions - target).abs().min()) + 0.01 * target


def test_many_groups_in_coarse_steps():
    """Too many combinations to look at all of them."""
    program = chain(*[32, 64, 48, 128] * 6)
    for target in (0.12, 0.23, 0.5, 0.81, 0.97):
        scores = {g.name: torch.rand(g.size) for g in program.groups}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = calibrate(program, program.groups, scores, target, limits=Limits(round_to=16))
        assert found.fraction == pytest.approx(target, rel=0.01)


def test_steps_too_coarse_for_the_target_are_said():
    program = chain(16)
    with pytest.warns(UserWarning, match="a single step that the limits allow more or less is worth more"):
        found = calibrate(program, program.groups, {"g0": torch.arange(16.0)}, 0.7, limits=Limits(round_to=8))
    assert found.mask.kept == {"g0": 8}


def test_the_least_counts_the_limits():
    program = chain(10, 20)  # 30 + 200 + 200
    found = targets(program, flops=0.3, limits=Limits(min_keep=0.5))
    assert found.least_flops == 15 + 50 + 100
    with pytest.raises(
        TargetError, match=r"with the least that the limits allow, still has 165 of 430 .* relax the limits"
    ):
        found.require_reachable()
    with pytest.raises(TargetError, match="with the least that the limits allow"):
        ATO(program, flops=0.3, total_steps=10, limits=Limits(min_keep=0.5))
    with pytest.raises(TargetError, match="with one unit left in every group"):
        targets(program, flops=0.01).require_reachable()


def test_round_to_is_short_for_limits():
    program = atofx.trace(Residual(), torch.zeros(1, 3, 8, 8))
    assert oneshot(program, 0.5, round_to=4) == oneshot(program, 0.5, limits=Limits(round_to=4))
    with pytest.raises(ConfigError, match="give it once"):
        oneshot(program, 0.5, round_to=8, limits=Limits(round_to=4))
    with pytest.raises(ConfigError, match="round_to=0"):
        oneshot(program, 0.5, round_to=0)
    with pytest.raises(ConfigError, match="matches 'bloks'; the nearest is 'blocks'"):
        ATO(program, flops=0.5, total_steps=10, limits=Limits(per_group={"bloks": {"min_keep": 0.5}}))
