import warnings

import pytest
import torch

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import Limits
from atofx.methods import targets
from atofx.methods.calibrate import calibrate
from tests.methods.stub import chain


def descending(size, start=0.0, step=1.0):
    return start - step * torch.arange(size, dtype=torch.float64)


def test_bisection_by_hand():
    program = chain(4)  # FLOPs = 13 * kept: 52, 39, 26, 13
    for target, kept in [(1.0, 4), (0.75, 3), (0.5, 2), (0.25, 1)]:
        result = calibrate(program, program.groups, {"g0": torch.tensor([0.1, 3.0, -1.0, 2.0])}, target)
        assert (result.mask.kept, result.fraction) == ({"g0": kept}, target)
    assert result.mask["g0"].tolist() == [False, True, False, False]


def test_one_offset_compares_units_of_all_groups():
    program = chain(100, 100)
    scores = {"g0": descending(100), "g1": descending(100, start=-50.0)}
    result = calibrate(program, program.groups, scores, 0.5)
    kept = result.mask.kept
    assert kept["g0"] - kept["g1"] == pytest.approx(50, abs=1)
    assert result.flops == program.flops(result.mask)
    assert result.fraction == pytest.approx(0.5, rel=0.01)
    assert all(bool((scores[name][mask] >= result.offset - 1).all()) for name, mask in result.mask.items())


@pytest.mark.parametrize("target", [0.03, 0.1, 0.31, 0.5, 0.77, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_within_one_percent(target, seed):
    program = chain(40, 64, 17, 80)
    generator = torch.Generator().manual_seed(seed)
    scores = {g.name: torch.randn(g.size, generator=generator) * 3 ** (i - 1) for i, g in enumerate(program.groups)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = calibrate(program, program.groups, scores, target)
    assert result.fraction == pytest.approx(target, rel=0.01)
    for name, keep in result.mask.items():
        assert keep.any()
        assert (~keep).sum() == 0 or scores[name][keep].min() >= scores[name][~keep].max()


def test_no_group_ends_empty():
    program = chain(50, 50)
    scores = {"g0": descending(50), "g1": torch.full((50,), -1e6)}
    assert calibrate(program, program.groups, scores, 0.05).mask.kept["g1"] == 1


def test_tied_scores_of_a_controller_that_never_learned():
    program = chain(30, 30)
    scores = {"g0": torch.zeros(30), "g1": torch.zeros(30)}
    assert calibrate(program, program.groups, scores, 0.4).fraction == pytest.approx(0.4, rel=0.01)


def test_unreachable_target_says_the_least():
    program = chain(4)
    with pytest.raises(TargetError, match=r"13 of 52 multiply-adds, 0\.2500 of all"):
        calibrate(program, program.groups, {"g0": descending(4)}, 0.2)


def test_a_jump_across_the_target_is_warned_about():
    program = chain(4)
    with pytest.warns(UserWarning, match=r"keeps 0\.5000 of the FLOPs for a target of 0\.6000"):
        result = calibrate(program, program.groups, {"g0": descending(4)}, 0.6)
    assert result.mask.kept == {"g0": 2}


def test_rounds_kept_channels():
    program = chain(64, 64, 12)
    scores = {name: torch.rand(len(keep)) for name, keep in program.full_mask().items()}
    kept = calibrate(program, program.groups, scores, 0.5, limits=Limits(round_to=8)).mask.kept
    assert kept["g0"] % 8 == 0
    assert kept["g1"] % 8 == 0


def test_refuses_nan():
    program = chain(4)
    with pytest.raises(ConfigError, match="NaN"):
        calibrate(program, program.groups, {"g0": torch.tensor([1.0, float("nan"), 0, 0])}, 0.5)


def test_targets_convert_into_each_other():
    program = chain(10, 20)  # 30 + 200 + 200 = 430, all of it prunable
    assert targets(program, flops=0.5).p == pytest.approx(0.5)
    # only g0: 3 * 10 + 10 * 20 = 230 depend on it, 200 do not
    found = targets(program, p=0.1, groups=["g0"])
    assert (found.total, found.prunable) == (430, 230)
    assert found.flops == pytest.approx((200 + 23) / 430)
    assert targets(program, flops=found.flops, groups=["g0"]).p == pytest.approx(0.1)
    assert found.least_flops == 3 + 20 + 200


@pytest.mark.parametrize("arguments", [{}, {"flops": 0.5, "p": 0.5}, {"flops": 0.0}, {"flops": 1.2}, {"p": -1.0}])
def test_targets_refuse(arguments):
    with pytest.raises(ConfigError, match="kept fraction"):
        targets(chain(4), **arguments)


def test_group_patterns():
    program = chain(4, 4)
    with pytest.raises(ConfigError, match="no prunable group matches 'g7'; the nearest is 'g"):
        targets(program, flops=0.5, groups=["g7"])
