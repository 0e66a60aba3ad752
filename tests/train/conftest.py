"""Shared by the training tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads; these nets are too small to gain from a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_images(root: Path, per_class: int, size: tuple[int, int], classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    """A folder in the ImageNet layout: bright and dark images with noise."""
    rng = np.random.default_rng(0)
    for half in ("train", "val"):
        for label, name in enumerate(classes):
            folder = root / half / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                noise = rng.integers(0, 100, (size[1], size[0], 3)) + 150 * label / max(1, len(classes) - 1)
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.png")
    return root
