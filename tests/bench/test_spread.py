"""The arithmetic on samples, by hand."""

import pytest

from atofx.bench import Comparison, Setting, Side, Spread, pairwise, realised


def side(*seconds: float, batch: int = 1) -> Side:
    return Side(seconds, batch, moved=0, peak=0, deviation=0.0)


def test_quartiles():
    assert Spread.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(2.0, 3.0, 4.0)
    assert Spread.of([1.0, 2.0]) == Spread(1.25, 1.5, 1.75)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_ratios_are_those_of_neighbours():
    assert pairwise([2.0, 9.0, 4.0], [1.0, 3.0, 8.0]) == (2.0, 3.0, 0.5)
    with pytest.raises(ValueError, match="shorter"):
        pairwise([1.0, 2.0], [1.0])


def test_the_ratio_of_medians_is_not_the_median_of_ratios():
    one = Comparison(Setting(), side(2.0, 30.0, 4.0), side(1.0, 10.0, 4.0))  # a busy moment slows both of a pair
    assert one.speedup == Spread(1.5, 2.0, 2.5)
    assert one.dense.latency.median / one.compact.latency.median == 1.0
    assert one.pays


def test_realised_over_ideal():
    assert realised(2.0, 1000, 500) == 1.0
    assert realised(1.2, 1000, 400) == pytest.approx(0.48)
    assert realised(4.0, 1000, 500) == 2.0


def test_a_mask_that_does_not_pay():
    assert not Comparison(Setting(), side(1.0, 1.0), side(1.0, 1.0)).pays
    assert not Comparison(Setting(), side(1.0), side(1.25)).pays


def test_throughput_is_that_of_the_median():
    assert side(0.5, 0.25, 1.0, batch=8).throughput == 16.0
