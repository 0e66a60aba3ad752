from itertools import pairwise

import pytest

from atofx.errors import ConfigError
from atofx.methods import PUBLISHED, Schedule
from atofx.methods.schedule import controller_lr, controller_pace, plan


def published(**overrides):
    return plan(PUBLISHED, 245 * 1251, every=None, steps_per_epoch=1251, lr=None, **overrides)


def test_published_run_in_epochs():
    steps = published()
    assert [n / 1251 for n in (steps.start, steps.warm, steps.late, steps.decay, steps.end)] == [25, 50, 120, 122, 125]
    assert (steps.every, steps.lr, steps.resample) == (20, 1e-3, 1251)


def test_lambda_rule():
    steps = published()
    epochs = {0: 0.0, 49: 0.0, 50: 10.0, 119: 10.0, 120: 1000.0, 244: 1000.0}
    assert {epoch: steps.lmd(epoch * 1251) for epoch in epochs} == epochs
    assert steps.lmd(60 * 1251, fixed=7.0) == 7.0
    assert steps.lmd(130 * 1251, fixed=7.0) == 7.0
    assert steps.lmd(0, fixed=7.0) == 0.0


def test_controller_steps_every_twenty_within_the_window():
    steps = published()
    due = [n for n in range(steps.total) if steps.is_controller_step(n)]
    assert due[0] == steps.start
    assert due[-1] < steps.end
    assert {b - a for a, b in pairwise(due)} == {20}
    assert len(due) == steps.updates


def test_mask_is_drawn_once_an_epoch():
    steps = published()
    drawn = [n / 1251 for n in range(steps.total) if steps.is_resample_step(n)]
    assert drawn == list(range(25, 125))


@pytest.mark.parametrize(("window", "pace"), [(0, 5), (282, 5), (700, 7), (1999, 19), (2000, 20), (10**6, 20)])
def test_pace_of_short_runs(window, pace):
    assert controller_pace(window) == pace


@pytest.mark.parametrize(("updates", "lr"), [(0, 1e-2), (14, 1e-2), (50, 1e-2), (100, 5e-3), (500, 1e-3), (6250, 1e-3)])
def test_learning_rate_of_short_runs(updates, lr):
    assert controller_lr(updates) == pytest.approx(lr)


def test_values_given_are_taken():
    steps = plan(Schedule(), 100, every=3, steps_per_epoch=10, lr=0.5)
    assert (steps.every, steps.resample, steps.lr) == (3, 10, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps=0"),
        ({"every": 0}, "every=0"),
        ({"steps_per_epoch": -1}, "steps_per_epoch=-1"),
        ({"lr": 0.0}, "controller_lr=0.0"),
    ],
)
def test_refuses(arguments, message):
    values = {"total_steps": 100, "every": None, "steps_per_epoch": None, "lr": None} | arguments
    with pytest.raises(ConfigError, match=message):
        plan(Schedule(), values.pop("total_steps"), **values)


def test_refuses_impossible_phases():
    with pytest.raises(ConfigError, match=r"t_w=1\.5"):
        Schedule(t_w=1.5)
    with pytest.raises(ConfigError, match="after t_end"):
        Schedule(t_start=0.9, t_end=0.5)
