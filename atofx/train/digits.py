"""Scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 inside that package; a first run downloads nothing."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from atofx.errors import ConfigError
from atofx.train.images import Augment, DataSet, in_memory

_NATIVE = 8
_TEST_IMAGES = 360


def digits(image_size: int | None, augment: Augment | None, device: torch.device) -> DataSet:
    """1,437 training and 360 test images, split once and for all, classes in equal shares.

    ``image_size`` above 8 enlarges the images bilinearly.

    Raises:
        ConfigError: an image size below 8, or augmentation that digits do not bear.
    """
    from sklearn.datasets import load_digits  # takes a second: only when it is needed
    from sklearn.model_selection import train_test_split

    size = image_size or _NATIVE
    if size < _NATIVE:
        raise ConfigError(f"image_size {size} is below the digits' own {_NATIVE} pixels")
    if augment == "imagenet":
        raise ConfigError("augment imagenet is for photographs; digits take none, shift or crop-flip")
    data = load_digits()
    pixels = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    if size != _NATIVE:
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    images = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    labels = torch.from_numpy(data.target).long()
    train, test = train_test_split(
        range(len(labels)), test_size=_TEST_IMAGES, stratify=data.target, random_state=0, shuffle=True
    )
    train, test = sorted(train), sorted(test)
    pairs = (images[train], labels[train]), (images[test], labels[test])
    train_images, test_images = in_memory(*pairs, augment or "shift", device)
    return DataSet("digits", tuple(str(name) for name in data.target_names), 1, size, train_images, test_images)
