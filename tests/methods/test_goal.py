"""How many units go: FLOPs targets and target group sparsities."""

import pytest
import torch

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.methods.goal import choose_share, make_goal
from atofx.methods.selection import UnitSpace
from tests.methods.stub import chain


def goal(program, limits=NO_LIMITS, **target):
    options = {"flops": None, "sparsity": None, **target}
    return make_goal(program, UnitSpace(program.groups), groups=None, limits=limits, **options)


def none_gone(program):
    return torch.zeros(sum(group.size for group in program.groups), dtype=torch.bool)


def test_sparsity_takes_the_lowest_but_leaves_one():
    program = chain(2, 4)
    scores = torch.tensor([1.0, 2.0, 9.0, 8.0, 7.0, 3.0])
    keep = goal(program, sparsity=0.5).choose(scores, none_gone(program))
    assert keep.tolist() == [False, True, True, True, False, False]  # 3 of 6; the second of g0 has to stay


def test_sparsity_counts_what_is_gone_and_never_brings_it_back():
    program = chain(2, 4)
    gone = torch.tensor([False, False, True, False, False, False])
    keep = goal(program, sparsity=0.5).choose(torch.tensor([1.0, 2.0, 9.0, 8.0, 7.0, 3.0]), gone)
    assert keep.tolist() == [False, True, False, True, True, False]


def test_a_share_of_those_that_have_to_go():
    program = chain(2, 4)
    scores, target = torch.tensor([1.0, 2.0, 9.0, 8.0, 7.0, 3.0]), goal(chain(2, 4), sparsity=0.5)
    part = choose_share(target, scores, none_gone(program), 0.7)
    assert part.tolist() == [False, True, True, True, True, False]  # floor(0.7 * 3) = 2
    later = choose_share(target, torch.tensor([9.0, 8.0, 1.0, 2.0, 3.0, 9.0]), ~part, 0.7)
    assert torch.equal(later, part)  # what is gone counts
    assert choose_share(target, scores, ~part, 1.0).tolist() == [False, True, True, True, False, False]


def test_rounding_does_not_bring_back_what_is_gone():
    program = chain(8)
    gone = torch.tensor([True, False, True, True, False, False, False, False])
    keep = goal(program, Limits(round_to=4), sparsity=0.4).choose(torch.arange(8.0), gone)
    assert keep.tolist() == [False, False, False, False, True, True, True, True]


def test_flops_within_one_percent_and_monotone():
    program = chain(100, 100)
    target = goal(program, flops=0.5)
    scores = torch.rand(200, generator=torch.Generator().manual_seed(0))
    gone = none_gone(program)
    for share in (0.25, 0.5, 0.75, 1.0):
        keep = choose_share(target, scores, gone, share)
        assert not (keep & gone).any()
        gone = ~keep
    assert abs(program.flops(UnitSpace(program.groups).mask(program, keep)) / program.flops() - 0.5) <= 0.005
    assert target.is_reached(torch.ones(200, dtype=torch.bool))
    assert not target.is_reached(none_gone(program))


def test_widened():
    program = chain(10, 10)
    assert goal(program, sparsity=0.5).widened(0.25).count == 15
    assert goal(program, sparsity=0.5).widened(9.0).sparsity == 0.999
    flops = goal(program, flops=0.5)
    assert flops.widened(0.2) is flops


def test_refusals():
    program = chain(4, 4)
    assert goal(program) is None
    with pytest.raises(ConfigError, match=r"give flops= .* or sparsity= .*, not both"):
        goal(program, flops=0.5, sparsity=0.5)
    with pytest.raises(ConfigError, match=r"sparsity=1.5 is not a share of units"):
        goal(program, sparsity=1.5)
    with pytest.raises(TargetError, match=r"cannot remove 0.8000 of the units: .* 0.7500 can go"):
        goal(program, sparsity=0.8)
    with pytest.raises(TargetError, match=r"cannot keep only 0.0500"):
        goal(program, flops=0.05)
