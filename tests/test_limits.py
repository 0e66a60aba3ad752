"""Limits: the numbers of units a group may keep, and random masks within them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import atofx
from atofx.errors import ConfigError, MaskError
from atofx.ir.groups import Group, Member
from atofx.ir.limits import Limits, nearest
from tests import invariants
from tests.generator import net_of_seed

FIELDS = {
    "min_units": st.integers(1, 12),
    "min_width": st.integers(1, 24),
    "min_keep": st.floats(0, 1),
    "round_to": st.sampled_from([1, 2, 3, 4, 8]),
}
LIMITS = st.fixed_dictionaries({}, optional=FIELDS).map(lambda fields: Limits(**fields))


def group(size: int, width: int = 1, name: str = "layer4.0.conv1") -> Group:
    """Units of ``width`` channels each."""
    return Group(name, size, True, None, (Member("w", 0, "producer", torch.arange(size).repeat_interleave(width)),))


@pytest.mark.parametrize(
    ("limits", "size", "width", "expected"),
    [
        (Limits(), 4, 1, [1, 2, 3, 4]),
        (Limits(min_units=3), 4, 1, [3, 4]),
        (Limits(min_width=3), 4, 2, [2, 3, 4]),
        (Limits(min_width=100), 4, 2, [4]),
        (Limits(min_keep=0.5), 5, 1, [3, 4, 5]),
        (Limits(min_keep=0.6), 5, 1, [3, 4, 5]),
        (Limits(min_keep=1), 5, 1, [5]),
        (Limits(round_to=8), 32, 1, [8, 16, 24, 32]),
        (Limits(round_to=8), 20, 1, [8, 16, 20]),  # all of them is always allowed
        (Limits(round_to=8), 15, 1, [4, 8, 12, 15]),  # less than twice as wide: half of it
        (Limits(round_to=16), 24, 1, [8, 16, 24]),
        (Limits(round_to=16), 3, 1, [1, 2, 3]),
        (Limits(round_to=6), 11, 1, [3, 6, 9, 11]),
        (Limits(round_to=6), 5, 1, [1, 2, 3, 4, 5]),  # half of 6, but no half of 3
        (Limits(round_to=16), 12, 2, [4, 8, 12]),  # 24 channels, multiples of 8
        (Limits(round_to=8, narrow="free"), 15, 1, list(range(1, 16))),
        (Limits(round_to=8), 16, 4, [2, 4, 6, 8, 10, 12, 14, 16]),  # whole units of a grouped convolution
        (Limits(round_to=8), 4, 32, [1, 2, 3, 4]),
        (Limits(round_to=8), 16, 6, [4, 8, 12, 16]),
        (Limits(round_to=8), 3, 7, [3]),  # 8 units of 7 channels would be needed
        (Limits(round_to=8, min_keep=0.3), 64, 1, [24, 32, 40, 48, 56, 64]),
    ],
)
def test_allowed_by_hand(limits: Limits, size: int, width: int, expected: list[int]) -> None:
    assert limits.allowed(group(size, width)).tolist() == expected


def test_per_group_fields_replace_the_general_ones() -> None:
    limits = Limits(
        min_keep=0.5,
        round_to=8,
        per_group={"layer4": {"round_to": 1}, "layer4.*.conv1": {"min_keep": 0.25, "min_units": 5}},
    )
    assert limits.allowed(group(16)).tolist() == list(range(5, 17))
    assert limits.allowed(group(16, name="layer3.0")).tolist() == [8, 16]
    assert limits.of(group(16)) == Limits(min_units=5, min_keep=0.25)


@given(st.lists(st.integers(1, 60), min_size=1, unique=True).map(sorted), st.integers(0, 70))
def test_nearest(allowed: list[int], count: int) -> None:
    found = int(nearest(torch.tensor(allowed), torch.tensor(count)))
    assert found == min(allowed, key=lambda number: (abs(number - count), -number))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_units": 0}, "min_units=0 must be at least 1, and whole"),
        ({"min_width": 2.5}, "min_width=2.5 must be at least 1, and whole"),
        ({"round_to": True}, "round_to=True must be at least 1"),
        ({"min_keep": 1.5}, r"min_keep=1.5 is not a share; it lies in \[0, 1\]"),
        ({"min_keep": "half"}, "min_keep='half' is not a share"),
        ({"per_group": {"a": {"min_kep": 1}}}, "unknown limit 'min_kep' of 'a'; did you mean 'min_keep'"),
        ({"per_group": {"a": {"round_to": 0}}}, "limits of 'a': round_to=0 must be at least 1"),
        ({"per_group": {"a": 0.5}}, "limits of 'a' are a mapping"),
    ],
)
def test_errors_teach(fields, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Limits(**fields)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=8)
        self.last = nn.Conv2d(32, 12, 1)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.first(x))))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def program() -> atofx.Program:
    torch.manual_seed(0)
    return atofx.trace(Net().eval(), torch.randn(2, 3, 8, 8))


def test_random_masks(program: atofx.Program) -> None:
    sizes = {g.name: (g.size, g.channels) for g in program.prunable}
    assert sizes == {"first": (8, 32), "last": (12, 12)}  # groups of four channels are units
    assert program.random_mask(0.4, round_to=8).kept == {"first": 4, "last": 5}
    assert program.random_mask(0.1, limits=Limits(min_width=9)).kept == {"first": 3, "last": 9}
    limits = Limits(round_to=8, per_group={"first": {"min_keep": 0.7}})
    assert program.random_mask(0.1, limits=limits).kept == {"first": 6, "last": 4}
    assert program.random_mask(1.0, round_to=8) == program.full_mask()
    with pytest.raises(ConfigError, match=r"no prunable group \(limits\) matches 'furst'; the nearest is 'first'"):
        program.random_mask(limits=Limits(per_group={"furst": {"min_keep": 0.5}}))
    with pytest.raises(ConfigError, match="round_to=4 and limits with round_to=8: give it once"):
        program.random_mask(round_to=4, limits=Limits(round_to=8))


def test_check_limits(program: atofx.Program) -> None:
    mask = program.random_mask(0.4)
    program.check_limits(mask, Limits(min_keep=0.25))
    with pytest.raises(MaskError, match=r"outside of the limits: 'first' keeps 3 of 8 units \(nearest allowed: 4\)"):
        program.check_limits(mask, Limits(round_to=8))
    with pytest.raises(MaskError, match="lacks the groups"):
        program.check_limits({}, Limits())


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), LIMITS, st.floats(0.05, 1))
def test_random_nets(number: int, limits: Limits, keep: float) -> None:
    """Masks are within the limits, compact models exact, and FLOPs a function of the numbers of kept units."""
    net, inputs = net_of_seed(number)
    net.double()
    try:
        traced = invariants.trace(net, inputs(2)).program
    except invariants.UnsuitableError:
        assume(False)
    mask = traced.random_mask(keep, seed=number, limits=limits)
    traced.check_limits(mask, limits)
    for one in traced.prunable:
        kept, mine = int(mask[one.name].sum()), limits.of(one)
        width = one.channels // one.size
        assert width * one.size == one.channels
        if kept < one.size:
            assert kept >= mine.min_units
            assert kept * width >= mine.min_width
            assert kept >= mine.min_keep * one.size - 1e-9
            assert one.channels < 2 * mine.round_to or kept * width % mine.round_to == 0
            assert mine.round_to % 2 or one.channels < mine.round_to or kept * width % (mine.round_to // 2) == 0
    counts = torch.tensor([[int(vector.sum()) for vector in mask.values()]], dtype=torch.long).reshape(1, -1)
    assert int(traced.flops_by_counts(counts)) == traced.flops(mask)
    assert traced.verify(mask).ok
