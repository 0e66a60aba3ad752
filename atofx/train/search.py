"""The first phase of methods that look for a structure: training images, validation images, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from atofx.methods.protocol import Search
from atofx.train import checkpoint, rng
from atofx.train.config import TrainConfig
from atofx.train.evaluation import top1
from atofx.train.keys import generator_seed
from atofx.train.monitor import Before, Monitor
from atofx.train.processes import Processes
from atofx.train.run_folder import RunFolder
from atofx.train.search_data import SearchData

_DROPOUT = 6


class SearchPhase:
    """Runs a search to its end, resumable at any step.

    A share of the training images is held out for the search to evaluate itself with; test images are not touched. On
    one CPU process a resumed search ends with the very state of an uninterrupted one.

    Args:
        config: options.
        check_every: steps per evaluation within an epoch; None: at the ends of epochs only.
        data: training and held-out images.
        search: what learns.
        processes: those of the run; each takes its part of every batch.
        folder: of checkpoints and records.
        console: where lines and bars go.
    """

    def __init__(
        self,
        config: TrainConfig,
        check_every: int | None,
        data: SearchData,
        search: Search,
        processes: Processes,
        folder: RunFolder,
        console: Console,
    ) -> None:
        self._config = config
        self._every = check_every
        self._data = data
        self._search = search
        self._processes = processes
        self._folder = folder
        self._console = console
        self._step = 0
        self._seconds = 0.0
        self.earlier_seconds = 0.0

    @property
    def length(self) -> Before:
        """Epochs and steps of the phase."""
        return Before(self._data.epochs, self._data.steps)

    def fit(self) -> None:
        """Search to the end, from the last checkpoint if the configuration resumes and there is one."""
        rng.seed_all(generator_seed(self._config.seed, _DROPOUT, self._processes.share.rank) % 2**32)
        if self._config.resume and self._folder.search.exists():
            self._restore(checkpoint.load(self._folder.search, self._processes.device))
        per_epoch, total = self._data.order.steps_per_epoch, self.length.steps
        if self._step == total:
            return
        folder = self._folder if self._processes.is_main else None
        with Monitor(folder, self._console, "search", self.length.epochs, per_epoch, self._step) as monitor:
            while self._step < total:
                self._epoch(self._step // per_epoch, monitor)

    def _epoch(self, epoch: int, monitor: Monitor) -> None:
        per_epoch, every = self._data.order.steps_per_epoch, self._every
        start = self._step - epoch * per_epoch
        began, before = time.perf_counter(), self._seconds
        numbers: dict[str, float] = {}
        for images, labels in self._data.train.batches(self._data.order.epoch(epoch, start)):
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
        with self._autocast():
            self._search.step((self._laid_out(images), labels), self._held_out)

    def _held_out(self) -> tuple[Tensor, Tensor]:
        images, labels = self._data.held_out()
        return self._laid_out(images), labels

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self._config.channels_last else images

    def _check(self) -> float:
        """Accuracy of the present state on the validation images, in percent."""
        network = self._search.network
        self._processes.average_buffers(network)
        size = self._config.eval_batch_size
        accuracy = top1(network, self._data.validation, size, self._processes, self._autocast())
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
                "held_out": self._data.held_out.taken,
                "rng": rng.capture(),
            }
            checkpoint.save(state, self._folder.search)
        self._processes.wait()

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._step = state["step"]
        self._seconds = self.earlier_seconds = state["seconds"]
        self._search.load_state_dict(state["search"])
        self._data.held_out.resume(state["held_out"])
        if self._processes.is_main:
            rng.restore(state["rng"])
