"""The images of a search: those it trains on, and those that are held out of them."""

from __future__ import annotations

import numpy as np

from atofx.errors import ConfigError
from atofx.methods import subset_indices
from atofx.train.config import TrainConfig
from atofx.train.controller_data import ControllerBatches
from atofx.train.images import DataSet, PartOf
from atofx.train.options import SearchOptions
from atofx.train.plan import Share, Shuffled

_SEARCH, _HELD_OUT = 2, 3  # their data orders; training and controller have 0 and 1


class SearchData:
    """The training images in two parts; test images are not touched.

    Args:
        config: options.
        options: of the search.
        data: training images; the held-out ones are among them.
        share: this process' part of every batch.

    Attributes:
        train: all training images.
        order: epochs of batches over those that are not held out.
        validation: the held-out images.
        held_out: the next augmented batch of these on each call; a smaller batch if there are not enough.

    Raises:
        ConfigError: no images are left to train or to validate with.
    """

    def __init__(self, config: TrainConfig, options: SearchOptions, data: DataSet, share: Share) -> None:
        apart = subset_indices(len(data.train), fraction=options.validation, seed=config.seed).numpy()
        rest = np.setdiff1d(np.arange(len(data.train), dtype=np.int64), apart)
        if not len(rest) or not len(apart):
            raise ConfigError(f"{len(data.train)} training images cannot be shared by training and validation")
        self.train = data.train
        self.validation = PartOf(data.train, apart)
        self.order = Shuffled(rest, config.batch_size, config.seed, _SEARCH, share)
        self.held_out = ControllerBatches(data.train, Shuffled(apart, config.batch_size, config.seed, _HELD_OUT, share))
        self.epochs = options.epochs

    @property
    def steps(self) -> int:
        """Length of the search."""
        return self.epochs * self.order.steps_per_epoch
