"""Which images make up which batch: pure functions of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atofx.train.keys import UInt64, generator_seed, sample_keys

Indices = npt.NDArray[np.int64]
_ORDER, _AUGMENT = 0, 1


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one batch and the keys of their augmentation (None: the image as it is)."""

    indices: Indices
    keys: UInt64 | None = None


@dataclass(frozen=True)
class Share:
    """This process' part of every batch: each ``processes``-th image, from ``rank`` on."""

    rank: int = 0
    processes: int = 1

    def of(self, indices: Indices) -> Indices:
        """The part."""
        return indices[self.rank :: self.processes]


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Epochs of shuffled, augmented batches over a set of images.

    Attributes:
        images: indices of the images.
        batch_size: images per batch over all processes; a last, smaller batch is left out (unless it is the only one).
        seed: of order and augmentation.
        purpose: tells apart several orders of one run.
        share: this process' part of every batch.
    """

    images: Indices
    batch_size: int
    seed: int
    purpose: int
    share: Share

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self.images) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the ``start``-th on."""
        rng = np.random.default_rng(generator_seed(self.seed, self.purpose, _ORDER, epoch))
        order = self.images[rng.permutation(len(self.images))]
        for step in range(start, self.steps_per_epoch):
            part = self.share.of(order[step * self.batch_size : (step + 1) * self.batch_size])
            yield Batch(part, sample_keys(self.seed, (self.purpose << 1) | _AUGMENT, epoch, part))

    def endless(self, start: int) -> Iterator[Batch]:
        """The batches of all epochs from the ``start``-th of the first on."""
        epoch, step = divmod(start, self.steps_per_epoch)
        while True:
            yield from self.epoch(epoch, step)
            epoch, step = epoch + 1, 0


def in_order(count: int, batch_size: int, share: Share) -> Iterator[Batch]:
    """Every image once, unaugmented, in order; ``batch_size`` over all processes together."""
    indices = np.arange(count, dtype=np.int64)
    for start in range(0, count, batch_size):
        part = share.of(indices[start : start + batch_size])
        if len(part):
            yield Batch(part)
