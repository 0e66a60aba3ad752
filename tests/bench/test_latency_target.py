"""A latency target: met by running every candidate, refused where widths do not give it. The clock counts FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import atofx
from atofx import Limits, zoo
from atofx.bench import Rounds, Setting, latency_target
from atofx.bench.latency_target import TOLERANCE, fit_latency
from atofx.errors import ConfigError, TargetError
from atofx.methods import oneshot

TWICE = Rounds(warm_up=0, least=2, most=2)


@pytest.fixture
def clock() -> Iterator[Callable[[], float]]:
    """Seconds that pass as FLOPs are computed, and a little with every look."""
    with FlopCounterMode(display=False) as counter:
        yield lambda: counter.get_total_flops() * 1e-9


@pytest.fixture(scope="module")
def program() -> atofx.Program:
    torch.manual_seed(0)
    return atofx.trace(zoo.resnet20().eval(), torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("share", [0.3, 0.55, 0.9])
def test_the_target_is_met(program: atofx.Program, clock: Callable[[], float], share: float) -> None:
    asked: list[float] = []

    def mask_at(flops: float) -> atofx.Mask:
        asked.append(flops)
        return oneshot(program, flops, "l2")

    fit = fit_latency(program, share, mask_at, Setting(), TWICE, clock)
    assert fit.share.median == pytest.approx(share, rel=TOLERANCE)
    assert program.flops(fit.mask) / program.flops() == pytest.approx(share, rel=2 * TOLERANCE)
    assert fit.flops == asked[-1]


def test_the_target_is_met_where_time_does_not_follow_flops(program: atofx.Program) -> None:
    """Half of the dense time is spent whatever is cut."""
    with FlopCounterMode(display=False) as counter:
        looks = iter(range(10**6))

        def clock() -> float:
            return counter.get_total_flops() * 1e-9 + next(looks) * program.flops() * 2e-9

        fit = fit_latency(program, 0.75, lambda flops: oneshot(program, flops, "l2"), Setting(), TWICE, clock)
    assert fit.share.median == pytest.approx(0.75, rel=TOLERANCE)
    assert program.flops(fit.mask) / program.flops() == pytest.approx(0.5, abs=0.1)


def test_what_cannot_be_reached_names_the_nearest(program: atofx.Program, clock: Callable[[], float]) -> None:
    limits = Limits(min_keep=0.5)
    # the first candidate is below what the limits allow
    with pytest.raises(TargetError, match=r"no mask takes 10% of the dense model's time here: .*least"):
        fit_latency(program, 0.1, lambda flops: oneshot(program, flops, "l2", limits=limits), Setting(), TWICE, clock)
    steps = {True: program.full_mask(), False: program.random_mask(keep=0.25)}
    with pytest.raises(TargetError, match=r"no mask takes 50% of the dense model's time here.*the nearest keeps"):
        fit_latency(program, 0.5, lambda flops: steps[flops > 0.4], Setting(), TWICE, clock)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_shares_out_of_range_are_refused(program: atofx.Program, share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        fit_latency(program, share, lambda flops: program.full_mask(), Setting(), TWICE)


def test_a_model_without_prunable_groups_is_refused() -> None:
    program = atofx.trace(nn.Linear(3, 2), torch.randn(1, 3))
    with pytest.raises(TargetError):
        fit_latency(program, 0.5, lambda flops: oneshot(program, flops, "l2"), Setting(), TWICE)


def stepped(
    program: atofx.Program, times: list[float], monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], atofx.Mask]:
    """Masks whose compact model takes the first share of the dense time below half of the FLOPs, else the second."""
    asked: list[float] = []

    def mask_at(flops: float) -> atofx.Mask:
        asked.append(flops)
        return program.random_mask(keep=flops)

    def measured(runs: object, rounds: Rounds, clock: Callable[[], float]) -> list[list[float]]:
        return [[1.0] * 3, [times[asked[-1] >= 0.5]] * 3]

    monkeypatch.setattr(latency_target, "interleave", measured)
    return mask_at


def test_the_nearest_within_the_tolerance_is_taken_in_the_end(
    program: atofx.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mask comes within half of the tolerance, where the search ends at once."""
    fit = fit_latency(program, 0.6, stepped(program, [0.575, 0.62], monkeypatch), Setting(), TWICE)
    assert fit.share.median == 0.62
    with pytest.raises(TargetError, match=r"takes 64%.*widths come in steps"):
        fit_latency(program, 0.6, stepped(program, [0.5, 0.64], monkeypatch), Setting(), TWICE)
