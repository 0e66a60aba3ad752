"""The task of telling classes of images apart."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atofx.errors import ConfigError
from atofx.train import rng
from atofx.train.config import TrainConfig
from atofx.train.data import load_data
from atofx.train.evaluation import compare, logits_of, top1
from atofx.train.images import DataSet, Images
from atofx.train.layout import laid_out
from atofx.train.models import resolve_model
from atofx.train.processes import Processes
from atofx.train.task import Figure, Words

_TOP1 = "top1"


class Classification:
    """Images with one label each.

    Args:
        config: options.
        images: training and test images.
        processes: those of the run.
    """

    words = Words(sample="image", samples="images", tested="test images", answer="class")
    figures = (Figure(_TOP1, "top-1"),)

    def __init__(self, config: TrainConfig, images: DataSet, processes: Processes) -> None:
        self.images = images
        self._config = config
        self._processes = processes

    @classmethod
    def load(cls, config: TrainConfig, processes: Processes) -> Classification:
        """The task with the data that the configuration names.

        Raises:
            ConfigError: an unknown data set, or options that it does not bear.
            DataError: the data is missing or malformed.
        """
        if config.vocab is not None:
            raise ConfigError(f"vocab {config.vocab!r} is for words; images need none (or is --task squad missing?)")
        with processes.one_by_one() if config.data.startswith("cifar") else nullcontext():
            return cls(config, load_data(config, processes.device), processes)

    @property
    def name(self) -> str:
        """The data set's."""
        return self.images.name

    @property
    def train(self) -> Images:
        """The training images."""
        return self.images.train

    def summary(self) -> str:
        """Numbers and size of the images."""
        data = self.images
        return (
            f"{data.name}: {len(data.train):,} training and {len(data.test):,} test images of "
            f"{data.channels} x {data.image_size} x {data.image_size}, {len(data.classes)} classes"
        )

    def model(self) -> nn.Module:
        """The network of the configuration, with random weights."""
        config, data = self._config, self.images
        rng.seed_all(config.seed)
        model = self.untrained(config)
        model.to(self._processes.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        training = model.training
        images = self.example(1)
        try:
            with torch.no_grad():
                logits = logits_of(model.eval()(images))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the model is the user's
            raise ConfigError(
                f"{config.model} does not run on the images of {data.name}, {tuple(images.shape)}: {error}; take "
                "another model, let its factory take in_channels, or give another image_size"
            ) from error
        model.train(training)
        if logits.shape[1] != len(data.classes):
            raise ConfigError(
                f"{config.model} scores {logits.shape[1]} classes, {data.name} has {len(data.classes)}; "
                "let the factory take num_classes"
            )
        return model

    def teacher(self, config: TrainConfig, folder: Path) -> nn.Module:
        """The network of another configuration."""
        return self.untrained(config)

    def untrained(self, config: TrainConfig) -> nn.Module:
        """The network of a configuration for these images, with random weights.

        Raises:
            ConfigError: no such model, or it cannot be built for these images.
        """
        data = self.images
        return resolve_model(config.model, len(data.classes), data.channels, data.image_size, config.model_args)

    def example(self, count: int) -> Tensor:
        """Noise, (count, channels, size, size)."""
        size = self.images.image_size
        shape = (count, self.images.channels, size, size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self._processes.device)
        laid: Tensor = laid_out(noise, channels_last=self._config.channels_last)
        return laid

    def logits(self, output: Any) -> Tensor:
        """Class scores, (batch, classes)."""
        return logits_of(output)

    def labels(self, targets: Tensor) -> Tensor:
        """The classes as they are."""
        return targets

    def evaluate(self, model: nn.Module, autocast: AbstractContextManager[object] | None = None) -> dict[str, float]:
        """Top-1 on the test images."""
        size = self._config.eval_batch_size
        return {_TOP1: top1(model, self.images.test, size, self._processes, autocast)}

    def compare(self, masked: nn.Module, compact: nn.Module) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Top-1 of both, which must predict the same class of every test image."""
        both = compare(masked, compact, self.images.test, self._config.eval_batch_size, self._processes)
        return {_TOP1: both[0]}, {_TOP1: both[1]}

    def keep(self, folder: Path) -> None:
        """Nothing: the configuration says it all."""
