"""Several things timed in turn: A B A B, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from atofx.bench.allocator import kept_memory
from atofx.errors import ConfigError

Clock = Callable[[], float]


@dataclass(frozen=True)
class Rounds:
    """How often is measured. In a round everything runs once.

    Attributes:
        warm_up: rounds that are not timed.
        least: timed rounds, whatever they take.
        most: timed rounds at the most.
        seconds: between the two, no round begins later than this after the first one.
    """

    warm_up: int = 3
    least: int = 5
    most: int = 100
    seconds: float = 3.0

    def __post_init__(self) -> None:
        if self.warm_up < 0 or not 1 <= self.least <= self.most:
            raise ConfigError(
                f"rounds need 0 <= warm_up and 1 <= least <= most, got warm_up={self.warm_up}, least={self.least}, "
                f"most={self.most}"
            )


def interleave(
    runs: Sequence[Callable[[], Any]], rounds: Rounds, clock: Clock = time.perf_counter
) -> tuple[tuple[float, ...], ...]:
    """Seconds of every run, in the order of the rounds: the i-th numbers of all runs were measured one after the other.

    Memory that the runs free is kept until the end, so that none waits for pages.

    Args:
        runs: what is timed; a run that works on a GPU waits for it before it returns.
        rounds: how often.
        clock: seconds since any moment.
    """
    with kept_memory():
        return _interleaved(runs, rounds, clock)


def _interleaved(runs: Sequence[Callable[[], Any]], rounds: Rounds, clock: Clock) -> tuple[tuple[float, ...], ...]:
    for _ in range(rounds.warm_up):
        for run in runs:
            run()
    times: list[list[float]] = [[] for _ in runs]
    started = clock()
    done = 0
    while done < rounds.least or (done < rounds.most and clock() - started < rounds.seconds):
        for run, record in zip(runs, times, strict=True):
            began = clock()
            run()
            record.append(clock() - began)
        done += 1
    return tuple(map(tuple, times))
