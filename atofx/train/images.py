"""What the engine needs of a data set, and small data sets held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atofx.train.keys import UInt64, uniform
from atofx.train.plan import Batch, Indices

Augment = Literal["none", "shift", "crop-flip", "imagenet"]


class Images(Protocol):
    """Labelled images: batches by plan."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def batches(self, plan: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each planned batch images (N, C, H, W) in float32, normalised, and labels (N,)."""
        ...


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training and test images of one problem.

    Attributes:
        name: as the user wrote it.
        classes: names of the classes; labels index them.
        channels: channels of the images.
        image_size: their side in pixels.
        train: the training images.
        test: the test images.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    image_size: int
    train: Images
    test: Images


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """Images as one uint8 tensor (N, H, W, C) on the training device; a whole batch is augmented by one gather.

    Attributes:
        pixels: the images.
        labels: (N,), int64.
        mean: per channel, in the units of the pixels (0..255).
        std: per channel.
        augment: for batches with keys. ``shift`` crops at random from the image padded by an eighth of its side
            with black, ``crop-flip`` also mirrors every second image (He et al., CVPR 2016, section 4.2).
    """

    pixels: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    augment: Augment

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def batches(self, plan: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (N, C, H, W) in channels-last order, and labels."""
        device = self.pixels.device
        for batch in plan:
            indices = torch.from_numpy(batch.indices).to(device)
            pixels = self.pixels[indices]
            if batch.keys is not None and self.augment != "none":
                pixels = self._augmented(pixels, batch.keys)
            yield ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2), self.labels[indices]

    def to(self, device: torch.device) -> MemoryImages:
        """The same images on another device."""
        pixels, labels, mean, std = (tensor.to(device) for tensor in (self.pixels, self.labels, self.mean, self.std))
        return MemoryImages(pixels, labels, mean, std, self.augment)

    def _augmented(self, pixels: Tensor, keys: UInt64) -> Tensor:
        _, height, width, _ = pixels.shape
        margin = max(1, height // 8)
        padded = F.pad(pixels, (0, 0, margin, margin, margin, margin))
        offsets = [np.floor(uniform(keys, draw) * (2 * margin + 1)).astype(np.int64) for draw in (0, 1)]
        top, left = (torch.from_numpy(offset).to(pixels.device)[:, None] for offset in offsets)
        rows = torch.arange(height, device=pixels.device) + top
        columns = torch.arange(width, device=pixels.device) + left
        if self.augment == "crop-flip":
            mirrored = torch.from_numpy(uniform(keys, 2) < 0.5).to(pixels.device)[:, None]
            columns = torch.where(mirrored, columns.flip(1), columns)
        which = torch.arange(len(pixels), device=pixels.device)[:, None, None]
        return padded[which, rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True, eq=False)
class PartOf:
    """Some of a set's images: the ones at ``indices``, numbered from 0."""

    images: Images
    indices: Indices

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def batches(self, plan: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of the whole set."""
        return self.images.batches(Batch(self.indices[batch.indices], batch.keys) for batch in plan)


def in_memory(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], augment: Augment, device: torch.device
) -> tuple[MemoryImages, MemoryImages]:
    """Training and test images from (pixels (N, H, W, C) uint8, labels) pairs, normalised by the training images."""
    values = train[0].flatten(0, 2).double()
    mean, std = values.mean(0).float(), values.std(0).clamp_min(1.0).float()
    return (
        MemoryImages(*train, mean, std, augment).to(device),
        MemoryImages(*test, mean, std, "none").to(device),
    )
