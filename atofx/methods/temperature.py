"""The temperature of the Gumbel-softmax over a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from atofx.errors import ConfigError

Curve = Literal["cosine", "linear"]


@dataclass(frozen=True)
class Temperature:
    """Falls from ``start`` to ``end``.

    The code of TAS has a cosine from 5 to 0.1, its paper a straight line from 10 to 0.1: :meth:`published`.

    Attributes:
        curve: how it falls.
        start: at the first step.
        end: at the last one.

    Raises:
        ConfigError: not 0 < end <= start.
    """

    curve: Curve = "cosine"
    start: float = 5.0
    end: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.end <= self.start:
            raise ConfigError(f"a temperature falls from start={self.start} to end={self.end}, which is above 0")

    @classmethod
    def published(cls, curve: Curve) -> Temperature:
        """The cosine of the code, or the line of the paper."""
        return cls("linear", 10.0) if curve == "linear" else cls()

    def at(self, done: float) -> float:
        """The temperature when a share ``done`` of the search, 0 to 1, is over."""
        left = 1 - done if self.curve == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.end + (self.start - self.end) * left
