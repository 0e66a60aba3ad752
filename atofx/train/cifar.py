"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) through torchvision, which downloads them once."""

from __future__ import annotations

from urllib.error import URLError

import torch
from torch import Tensor

from atofx.errors import ConfigError, DataError
from atofx.train.images import Augment, DataSet, in_memory

_SIZE = 32


def cifar(name: str, folder: str, image_size: int | None, augment: Augment | None, device: torch.device) -> DataSet:
    """50,000 training and 10,000 test images of 32 x 32, in memory; ``name`` is ``cifar10`` or ``cifar100``.

    Raises:
        DataError: neither there nor downloadable.
        ConfigError: another image size, or ImageNet augmentation.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # takes a second: only when it is needed

    if image_size not in (None, _SIZE):
        raise ConfigError(f"{name} has images of {_SIZE} pixels; image_size {image_size} is for folders of images")
    if augment == "imagenet":
        raise ConfigError(f"augment imagenet is for larger photographs; {name} takes none, shift or crop-flip")
    kind = CIFAR10 if name == "cifar10" else CIFAR100
    try:
        parts = [kind(folder, train=train, download=True) for train in (True, False)]
    except (OSError, URLError, RuntimeError) as error:
        raise DataError(
            f"{name} is not in {folder!r} and cannot be downloaded ({error}); put torchvision's files "
            "there (data_dir), or use a folder of images: folder:PATH"
        ) from error
    pairs: list[tuple[Tensor, Tensor]] = [(torch.from_numpy(part.data), torch.tensor(part.targets)) for part in parts]
    train_images, test_images = in_memory(pairs[0], pairs[1], augment or "crop-flip", device)
    return DataSet(name, tuple(parts[0].classes), 3, _SIZE, train_images, test_images)
