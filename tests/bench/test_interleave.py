"""Rounds: who runs when, and when they end."""

import pytest

from atofx.bench import Rounds, interleave
from atofx.errors import ConfigError
from tests.bench.clocks import FakeClock


def test_runs_take_turns_and_warm_up_is_not_timed():
    clock = FakeClock()
    runs = [clock.run("A", 9.0, 9.0, 1.0, 2.0, 3.0), clock.run("B", 9.0, 9.0, 4.0, 5.0, 6.0)]
    times = interleave(runs, Rounds(warm_up=2, least=3, most=3, seconds=0.0), clock)
    assert clock.order == ["A", "B"] * 5
    assert times == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_time_ends_the_measurement_after_the_least_rounds():
    clock = FakeClock()
    times = interleave([clock.run("A", 1.0), clock.run("B", 1.0)], Rounds(0, 2, 100, seconds=9.0), clock)
    assert len(times[0]) == len(times[1]) == 5  # the sixth round would begin after 10 seconds
    clock = FakeClock()
    assert len(interleave([clock.run("A", 50.0)], Rounds(0, 2, 100, seconds=9.0), clock)[0]) == 2


def test_most_rounds_end_it_too():
    clock = FakeClock()
    assert len(interleave([clock.run("A", 0.25)], Rounds(1, 2, 7, seconds=1000.0), clock)[0]) == 7


@pytest.mark.parametrize("wrong", [{"warm_up": -1}, {"least": 0}, {"least": 8, "most": 7}])
def test_wrong_rounds(wrong):
    with pytest.raises(ConfigError, match=r"rounds need 0 <= warm_up and 1 <= least <= most"):
        Rounds(**wrong)
