"""Data sets, augmentation and order."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atofx.errors import ConfigError, DataError
from atofx.train.config import TrainConfig
from atofx.train.data import load_data
from atofx.train.files import FileImages
from atofx.train.images import DataSet, MemoryImages
from atofx.train.plan import Batch, Share, Shuffled, in_order
from tests.train.conftest import write_images

CPU = torch.device("cpu")


def load(**values: object) -> DataSet:
    return load_data(TrainConfig.parse(values), CPU)


def test_digits_are_split_in_equal_shares() -> None:
    data = load()
    assert (len(data.train), len(data.test), data.channels, data.image_size) == (1437, 360, 1, 8)
    assert isinstance(data.test, MemoryImages)
    counts = torch.bincount(data.test.labels)
    assert counts.max() - counts.min() <= 2


def test_digits_can_be_enlarged() -> None:
    images, labels = next(load(image_size=16).test.batches(in_order(360, 5, Share())))
    assert images.shape == (5, 1, 16, 16)
    assert labels.shape == (5,)


def test_images_are_normalised() -> None:
    data = load(augment="none")
    images, _ = next(data.train.batches(in_order(1437, 1437, Share())))
    assert float(images.mean()) == pytest.approx(0, abs=1e-3)
    assert float(images.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["shift", "crop-flip"])
def test_augmented_images_are_shifted_and_mirrored_originals(kind: str) -> None:
    data = load(augment=kind)
    assert isinstance(data.train, MemoryImages)
    order = Shuffled(np.arange(64), 64, 0, 0, Share())
    batch = next(order.epoch(0))
    augmented, labels = next(data.train.batches([batch]))
    plain, same = next(data.train.batches([Batch(batch.indices)]))
    assert torch.equal(labels, same)
    dark = ((0 - data.train.mean) / data.train.std).item()
    mirrored = 0
    for image, original in zip(augmented, plain, strict=True):
        framed = torch.nn.functional.pad(original, (1, 1, 1, 1), value=dark)
        crops = [framed[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        straight = any(torch.equal(image, crop) for crop in crops)
        flipped = any(torch.equal(image, crop.flip(2)) for crop in crops)
        assert straight or flipped
        mirrored += flipped and not straight
    assert (mirrored > 10) == (kind == "crop-flip")


def test_order_and_augmentation_do_not_depend_on_the_number_of_processes() -> None:
    data = load()
    whole = Shuffled(np.arange(100), 10, 3, 0, Share())
    halves = [Shuffled(np.arange(100), 10, 3, 0, Share(rank, 2)) for rank in (0, 1)]
    for batch, *parts in zip(whole.epoch(1), *(half.epoch(1) for half in halves), strict=True):
        images, _ = next(data.train.batches([batch]))
        for rank, part in enumerate(parts):
            assert torch.equal(next(data.train.batches([part]))[0], images[rank::2])


def test_an_epoch_can_start_anywhere() -> None:
    order = Shuffled(np.arange(100), 10, 3, 0, Share())
    late = list(order.epoch(2, start=7))
    assert [batch.indices.tolist() for batch in late] == [batch.indices.tolist() for batch in order.epoch(2)][7:]
    endless = order.endless(17)
    assert next(endless).indices.tolist() == next(order.epoch(1, 7)).indices.tolist()


def test_an_epoch_sees_every_image_once() -> None:
    order = Shuffled(np.arange(100), 10, 0, 0, Share())
    seen = np.concatenate([batch.indices for batch in order.epoch(0)])
    assert sorted(seen) == list(range(100))
    assert seen.tolist() != np.concatenate([batch.indices for batch in order.epoch(1)]).tolist()


def test_small_folder_images_stay_in_memory(tmp_path: Path) -> None:
    data = load(data=f"folder:{write_images(tmp_path, 3, (32, 32))}")
    assert isinstance(data.train, MemoryImages)
    assert (data.classes, data.image_size, len(data.train)) == (("ant", "bee"), 32, 6)


def test_large_folder_images_are_read_all_along(tmp_path: Path) -> None:
    data = load(data=f"folder:{write_images(tmp_path, 3, (90, 70))}", workers=0)
    assert isinstance(data.train, FileImages)
    order = Shuffled(np.arange(6), 6, 0, 0, Share())
    images, labels = next(data.train.batches(order.epoch(0)))
    assert images.shape == (6, 3, 224, 224)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]
    again, _ = next(data.train.batches(order.epoch(0)))
    assert torch.equal(images, again)
    other, _ = next(data.train.batches(order.epoch(1)))
    assert not torch.equal(images, other)


def test_reading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    data = load(data=f"folder:{write_images(tmp_path, 2, (90, 70))}", workers=0)
    before = torch.get_rng_state()
    next(data.train.batches(Shuffled(np.arange(4), 4, 0, 0, Share()).epoch(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_image_size_decodes_and_crops(tmp_path: Path) -> None:
    data = load(data=f"folder:{write_images(tmp_path, 2, (90, 70))}", image_size=48, augment="none")
    assert isinstance(data.train, MemoryImages)
    assert data.train.pixels.shape == (4, 48, 48, 3)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder '.*train'; the layout is PATH/train/<class>/<image>"):
        load(data=f"folder:{tmp_path}")


def test_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="has no class folders"):
        load(data=f"folder:{tmp_path}")


def test_class_without_images(tmp_path: Path) -> None:
    (tmp_path / "train" / "ant").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train/ant' has no images \(\.bmp"):
        load(data=f"folder:{tmp_path}")


def test_classes_must_match(tmp_path: Path) -> None:
    write_images(tmp_path, 1, (8, 8))
    (tmp_path / "val" / "bee").rename(tmp_path / "val" / "cow")
    with pytest.raises(DataError, match="train and val have different classes, such as 'bee'"):
        load(data=f"folder:{tmp_path}")


def test_broken_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, 2, (8, 8))
    (tmp_path / "val" / "bee" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read the image '.*val/bee/1.png'"):
        load(data=f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": "cifar"}, r"no data set 'cifar' \(did you mean 'cifar10'"),
        ({"data": "folder:"}, "lacks the path"),
        ({"image_size": 4}, "below the digits' own 8"),
        ({"augment": "imagenet"}, "is for photographs"),
        ({"cache": "none"}, "digits is always held in memory"),
        ({"data": "cifar10", "image_size": 64}, "cifar10 has images of 32 pixels"),
    ],
)
def test_what_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**values)
