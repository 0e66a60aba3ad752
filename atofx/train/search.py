"""The first phase of methods that look for a structure: training images, validation images, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from atofx.errors import ConfigError
from atofx.methods import subset_indices
from atofx.methods.protocol import Search
from atofx.train import checkpoint, rng
from atofx.train.config import TrainConfig
from atofx.train.evaluation import top1
from atofx.train.images import DataSet, PartOf
from atofx.train.keys import generator_seed
from atofx.train.monitor import Before, Monitor
from atofx.train.plan import Shuffled
from atofx.train.processes import Processes
from atofx.train.run_folder import RunFolder

_SEARCH = 2  # its data order; training and controller have 0 and 1
_DROPOUT = 6


class SearchPhase:
    """Runs a search to its end, resumable at any step.

    A share of the training images is held out and decides which state of the search counts; test images are not
    touched. On one CPU process a resumed search ends with the very state of an uninterrupted one.

    Args:
        config: options.
        data: training images; the validation images are among them.
        search: what learns.
        processes: those of the run; each takes its part of every batch.
        folder: of checkpoints and records.
        console: where lines and bars go.

    Raises:
        ConfigError: no images are left to train or to validate with.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        search: Search,
        processes: Processes,
        folder: RunFolder,
        console: Console,
    ) -> None:
        held_out = subset_indices(len(data.train), fraction=config.scratch.validation, seed=config.seed).numpy()
        rest = np.setdiff1d(np.arange(len(data.train), dtype=np.int64), held_out)
        if not len(rest) or not len(held_out):
            raise ConfigError(f"{len(data.train)} training images cannot be shared by training and validation")
        self._config = config
        self._search = search
        self._processes = processes
        self._folder = folder
        self._console = console
        self._train = data.train
        self._validation = PartOf(data.train, held_out)
        self._order = Shuffled(rest, config.batch_size, config.seed, _SEARCH, processes.share)
        self._step = 0
        self._seconds = 0.0
        self.earlier_seconds = 0.0

    @property
    def length(self) -> Before:
        """Epochs and steps of the phase."""
        epochs = self._config.scratch.epochs
        return Before(epochs, epochs * self._order.steps_per_epoch)

    def fit(self) -> None:
        """Search to the end, from the last checkpoint if the configuration resumes and there is one."""
        rng.seed_all(generator_seed(self._config.seed, _DROPOUT, self._processes.share.rank) % 2**32)
        if self._config.resume and self._folder.search.exists():
            self._restore(checkpoint.load(self._folder.search, self._processes.device))
        per_epoch, total = self._order.steps_per_epoch, self.length.steps
        if self._step == total:
            return
        folder = self._folder if self._processes.is_main else None
        with Monitor(folder, self._console, "gates", self.length.epochs, per_epoch, self._step) as monitor:
            while self._step < total:
                self._epoch(self._step // per_epoch, monitor)

    def _epoch(self, epoch: int, monitor: Monitor) -> None:
        per_epoch, every = self._order.steps_per_epoch, self._config.scratch.check_every
        start = self._step - epoch * per_epoch
        began, before = time.perf_counter(), self._seconds
        numbers: dict[str, float] = {}
        for images, labels in self._train.batches(self._order.epoch(epoch, start)):
            self._learn(images, labels)
            self._step += 1
            self._seconds = before + time.perf_counter() - began
            is_last = self._step == (epoch + 1) * per_epoch
            if is_last or (every is not None and self._step % every == 0):
                numbers = {"validation_top1": self._check()}
            monitor.advance(self._step)
            if not is_last and self._config.checkpoint_every and self._step % self._config.checkpoint_every == 0:
                self._save()
        self._save()
        monitor.epoch(epoch + 1, self._step, {**self._search.metrics(), **numbers})
        monitor.mask(epoch + 1, self._step, self._search.mask())

    def _learn(self, images: Tensor, labels: Tensor) -> None:
        if self._config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            self._search.step((images, labels))

    def _check(self) -> float:
        """Accuracy of the present state on the validation images, in percent."""
        network = self._search.network
        self._processes.average_buffers(network)
        size = self._config.eval_batch_size
        accuracy = top1(network, self._validation, size, self._processes, self._autocast())
        self._search.evaluate(accuracy)
        return accuracy

    def _autocast(self) -> AbstractContextManager[Any]:
        is_on = self._config.precision == "bf16"
        return torch.autocast(self._processes.device.type, dtype=torch.bfloat16, enabled=is_on)

    def _save(self) -> None:
        if self._processes.is_main:
            state = {
                "step": self._step,
                "seconds": self._seconds,
                "search": self._search.state_dict(),
                "rng": rng.capture(),
            }
            checkpoint.save(state, self._folder.search)
        self._processes.wait()

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._step = state["step"]
        self._seconds = self.earlier_seconds = state["seconds"]
        self._search.load_state_dict(state["search"])
        if self._processes.is_main:
            rng.restore(state["rng"])
