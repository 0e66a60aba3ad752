"""The data set that a configuration names."""

from __future__ import annotations

import torch

from atofx.errors import ConfigError, did_you_mean
from atofx.train.cifar import cifar
from atofx.train.config import TrainConfig
from atofx.train.digits import digits
from atofx.train.folder import folder
from atofx.train.images import DataSet

_NAMES = ("digits", "cifar10", "cifar100")


def load_data(config: TrainConfig, device: torch.device) -> DataSet:
    """Training and test images as ``config`` asks for them, for a model on ``device``.

    Raises:
        ConfigError: an unknown data set (with the nearest name) or options it does not bear.
        DataError: the data is missing or malformed.
    """
    augment = None if config.augment == "auto" else config.augment
    kind, colon, path = config.data.partition(":")
    if kind == "folder" and colon:
        if not path:
            raise ConfigError(
                "data 'folder:' lacks the path; write folder:PATH, with PATH/train/<class> and PATH/val/<class>"
            )
        return folder(path, config.image_size, augment, config.cache, config.color_jitter, config.workers, device)
    if config.cache == "none":
        raise ConfigError(f"{config.data} is always held in memory; cache: none is for folders of images")
    if config.data == "digits":
        return digits(config.image_size, augment, device)
    if config.data in ("cifar10", "cifar100"):
        return cifar(config.data, config.data_dir, config.image_size, augment, device)
    hint = did_you_mean(config.data, _NAMES, f" (known: {', '.join(_NAMES)}, folder:PATH)")
    raise ConfigError(f"no data set {config.data!r}{hint}")
