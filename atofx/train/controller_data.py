"""Batches for the controller: a fixed small part of the training images, with the training augmentation."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atofx.train.images import Images
from atofx.train.plan import Shuffled


class ControllerBatches:
    """The ``taken``-th batch of the controller's own order on each call; ``taken`` is all the state there is."""

    def __init__(self, images: Images, order: Shuffled) -> None:
        self.taken = 0
        self._images = images
        self._order = order
        self._stream: Iterator[tuple[Tensor, Tensor]] | None = None

    def __call__(self) -> tuple[Tensor, Tensor]:
        """The next batch."""
        if self._stream is None:
            self._stream = self._images.batches(self._order.endless(self.taken))
        self.taken += 1
        return next(self._stream)

    def resume(self, taken: int) -> None:
        """Go on as if ``taken`` batches had been taken."""
        self.taken = taken
        self._stream = None
