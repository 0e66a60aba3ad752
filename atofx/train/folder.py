"""Image folders in the ImageNet layout: PATH/train/<class>/*, PATH/val/<class>/*."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from atofx.errors import ConfigError, DataError
from atofx.train.files import FileImages
from atofx.train.images import Augment, DataSet, in_memory

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
_SMALL, _LARGE = 64, 224
_LAYOUT = "the layout is PATH/train/<class>/<image> and PATH/val/<class>/<image>"


@dataclass(frozen=True)
class Listing:
    """Files and labels of one half (train or val) of a folder."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def folder(
    path: str,
    image_size: int | None,
    augment: Augment | None,
    cache: Literal["auto", "memory", "none"],
    color_jitter: float,
    workers: int,
    device: torch.device,
) -> DataSet:
    """The images under ``path``; up to 64 pixels in memory, larger ones read by ``workers`` processes all along.

    Raises:
        DataError: a missing folder, no classes, no images, different classes in train and val, or an unreadable image.
        ConfigError: options that exclude each other.
    """
    root = Path(path).expanduser()
    train, val = list_images(root, "train"), list_images(root, "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise DataError(f"{root}: train and val have different classes, such as {odd[0]!r}")
    size = image_size or _natural_size(train.files[0])
    augment = augment or ("crop-flip" if size <= _SMALL else "imagenet")
    if cache == "memory" and augment == "imagenet":
        raise ConfigError("augment imagenet works on files of any size; it needs cache: none (or auto)")
    name = f"folder:{path}"
    if cache == "memory" or (cache == "auto" and size <= _SMALL and augment != "imagenet"):
        pairs = [(_decode(part.files, size), torch.tensor(part.labels)) for part in (train, val)]
        train_images, test_images = in_memory(pairs[0], pairs[1], augment, device)
        return DataSet(name, train.classes, 3, size, train_images, test_images)
    shared = {"image_size": size, "color_jitter": color_jitter, "workers": workers, "device": device}
    return DataSet(
        name,
        train.classes,
        3,
        size,
        FileImages(train.files, train.labels, augment=augment, **shared),  # type: ignore[arg-type]
        FileImages(val.files, val.labels, augment="none", **shared),  # type: ignore[arg-type]
    )


def list_images(root: Path, half: Literal["train", "val"]) -> Listing:
    """The images of one half, classes and files in alphabetical order.

    Raises:
        DataError: no such folder, no class folders, or a class without images.
    """
    base = root / half
    if not base.is_dir():
        raise DataError(f"no folder {str(base)!r}; {_LAYOUT}")
    classes = tuple(sorted(entry.name for entry in os.scandir(base) if entry.is_dir()))
    if not classes:
        raise DataError(f"{str(base)!r} has no class folders; {_LAYOUT}")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(file for file in (base / name).rglob("*") if file.suffix.lower() in _SUFFIXES)
        if not found:
            raise DataError(f"{str(base / name)!r} has no images ({', '.join(sorted(_SUFFIXES))}); {_LAYOUT}")
        files += found
        labels += [label] * len(found)
    return Listing(classes, tuple(files), tuple(labels))


def _natural_size(file: Path) -> int:
    try:
        with Image.open(file) as image:
            side = max(image.size)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"cannot read the image {str(file)!r}: {error}") from error
    return side if side <= _SMALL else _LARGE


def _decode(files: Sequence[Path], size: int) -> Tensor:
    """All images as uint8 (N, size, size, 3): the shorter side scaled to ``size``, then the centre."""
    out = np.empty((len(files), size, size, 3), dtype=np.uint8)

    def decode(position: int) -> None:
        out[position] = _square(files[position], size)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in pool.map(decode, range(len(files)), chunksize=64):
            pass
    return torch.from_numpy(out)


def _square(file: Path, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"cannot read the image {str(file)!r}: {error}") from error
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)
