"""Batches for the controller: a fixed small part of the training samples, with the training augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atofx.train.plan import Shuffled
from atofx.train.task import Samples


class ControllerBatches:
    """The ``taken``-th batch of the controller's own order on each call; ``taken`` is all the state there is."""

    def __init__(self, samples: Samples, order: Shuffled) -> None:
        self.taken = 0
        self._samples = samples
        self._order = order
        self._stream: Iterator[tuple[Any, Any]] | None = None

    def __call__(self) -> tuple[Any, Any]:
        """The next batch."""
        if self._stream is None:
            self._stream = self._samples.batches(self._order.endless(self.taken))
        self.taken += 1
        return next(self._stream)

    def resume(self, taken: int) -> None:
        """Go on as if ``taken`` batches had been taken."""
        self.taken = taken
        self._stream = None
