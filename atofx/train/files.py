"""Images that are read from files all along, by worker processes, with torchvision's transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atofx.errors import DataError
from atofx.train.images import Augment
from atofx.train.plan import Batch

# Of the ImageNet training images; the values every published ImageNet model uses.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CENTRE = 0.875  # 224 of 256: the evaluation crop of He et al., CVPR 2016

Item = tuple[int, int | None]


@dataclass(frozen=True, eq=False)
class FileImages:
    """Labelled image files.

    Attributes:
        files: the images.
        labels: their classes.
        image_size: side of the images handed out.
        augment: of batches with keys; others get the centre crop.
        color_jitter: strength with ``imagenet`` augmentation, half of it for hue.
        workers: processes that read ahead; 0 reads in this one.
        device: where batches are handed out.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    image_size: int
    augment: Augment
    color_jitter: float
    workers: int
    device: torch.device

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def batches(self, plan: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (N, 3, size, size) and labels of each planned batch."""
        loader = DataLoader(
            _Items(self),
            batch_sampler=_Sampler(plan),
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else a loader draws its workers' seed from the global generator
        )
        for images, labels in loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _Sampler:
    """A plan in the form :class:`DataLoader` takes: lists of (index, key)."""

    def __init__(self, plan: Iterable[Batch]) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[list[Item]]:
        for batch in self._plan:
            indices = batch.indices.tolist()
            keys = [None] * len(indices) if batch.keys is None else batch.keys.tolist()
            yield list(zip(indices, keys, strict=True))


class _Items(Dataset[tuple[Tensor, int]]):
    """One image by (index, key)."""

    def __init__(self, source: FileImages) -> None:
        self._source = source

    def __getitem__(self, item: Item) -> tuple[Tensor, int]:
        index, key = item
        file = self._source.files[index]
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"cannot read the image {str(file)!r}: {error}") from error
        if key is None:
            return self._plain(image), self._source.labels[index]
        with torch.random.fork_rng(devices=[]):  # the transforms draw from the global generator
            torch.manual_seed(key >> 1)
            return self._augmented(image), self._source.labels[index]

    @cached_property
    def _plain(self) -> Callable[[Image.Image], Tensor]:
        from torchvision.transforms import v2

        size = self._source.image_size
        return _composed(v2.Resize(round(size / _CENTRE)), v2.CenterCrop(size))

    @cached_property
    def _augmented(self) -> Callable[[Image.Image], Tensor]:
        from torchvision.transforms import v2

        size, jitter = self._source.image_size, self._source.color_jitter
        if self._source.augment == "none":
            return self._plain
        if self._source.augment == "imagenet":
            colors = [v2.ColorJitter(jitter, jitter, jitter, jitter / 2)] if jitter else []
            return _composed(v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *colors)
        flip = [v2.RandomHorizontalFlip()] if self._source.augment == "crop-flip" else []
        return _composed(v2.Resize(size), v2.CenterCrop(size), v2.RandomCrop(size, padding=max(1, size // 8)), *flip)


def _composed(*steps: Callable[[Image.Image], Image.Image]) -> Callable[[Image.Image], Tensor]:
    from torchvision.transforms import v2

    tail = (v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD))
    composed: Callable[[Image.Image], Tensor] = v2.Compose([*steps, *tail])
    return composed
