"""The training loop: one network, one method beside it, resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from atofx.methods import Method, subset_indices
from atofx.methods.protocol import call
from atofx.train import checkpoint, rng
from atofx.train.config import TrainConfig
from atofx.train.controller_data import ControllerBatches
from atofx.train.distill import Teacher
from atofx.train.keys import generator_seed
from atofx.train.layout import laid_out
from atofx.train.loss import mixed
from atofx.train.monitor import NOTHING_BEFORE, Before, Monitor, formats_of
from atofx.train.network import Network
from atofx.train.optimizer_method import OptimizerMethod
from atofx.train.optimizers import build_optimizer
from atofx.train.plan import Shuffled
from atofx.train.processes import Processes
from atofx.train.rates import learning_rate
from atofx.train.run_folder import RunFolder
from atofx.train.task import Task

_TRAINING, _CONTROLLER = 0, 1  # the two data orders of a run
_CONTROLLER_SHARE = 0.05  # of the training samples: Wu et al., CVPR 2024, and their code
_RECORD_EVERY = 20  # steps
_DROPOUT = 5


class Engine:
    """Trains a network in place, with ``method`` between the optimizer steps.

    Everything that decides the outcome is either a pure function of the seed and the step (data order, augmentation,
    mixup, learning rate) or in the checkpoint (weights, optimizer, method, global random states), so that on one CPU
    process a resumed run ends with the very weights of an uninterrupted one.

    With several processes each takes its part of every batch, ``batch_size`` being that of all together; samples, order
    and augmentation are those of one process. Batch norm sees the parts, and its running statistics are the mean over
    them; with that (and rounding) aside the result is that of one process. All processes hold equal weights and masks.

    Args:
        config: options.
        task: what is learnt.
        network: what is trained, on its device.
        method: what prunes; None is dense training.
        processes: those of the run.
        folder: of checkpoints and records.
        console: where lines and bars go.
        before: how long the run has been in an earlier phase.
        teacher: whom the network learns from besides the labels.
    """

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        network: Network,
        method: Method | None,
        processes: Processes,
        folder: RunFolder,
        console: Console,
        before: Before = NOTHING_BEFORE,
        teacher: Teacher | None = None,
    ) -> None:
        self._config = config
        self._task = task
        self._network = network
        self._model: nn.Module = network.module
        self._before = before
        self._method = method
        self._processes = processes
        self._folder = folder
        self._console = console
        self._teacher = teacher
        self._order = training_order(config, task, processes)
        subset = subset_indices(len(task.train), fraction=_controller_share(config, task), seed=config.seed)
        controller_order = Shuffled(subset.numpy(), config.batch_size, config.seed, _CONTROLLER, processes.share)
        self._controller_batches = ControllerBatches(task.train, controller_order)
        self._wrapped = processes.wrap(self._model)
        self._optimizer = build_optimizer(config, self._model)
        if isinstance(method, OptimizerMethod):
            self._optimizer = method.wrap(self._optimizer)
        self._step = 0
        self._best = -1.0
        self._seconds = 0.0
        self._earlier = 0.0
        self._sums = torch.zeros(3, dtype=torch.float64, device=processes.device)  # loss, correct, seen

    @property
    def earlier_seconds(self) -> float:
        """Time that earlier, interrupted calls of this run had spent training."""
        return self._earlier

    def fit(self) -> None:
        """Train to the end, from the last checkpoint if the configuration resumes and there is one."""
        self._seed()
        if self._config.resume and self._folder.last.exists():
            self._restore(checkpoint.load(self._folder.last, self._processes.device))
        per_epoch = self._order.steps_per_epoch
        folder = self._folder if self._processes.is_main else None
        method, epochs = self._config.method, self._config.epochs
        formats = formats_of(self._task)
        with Monitor(folder, self._console, method, epochs, per_epoch, self._step, self._before, formats) as monitor:
            while self._step < self._config.epochs * per_epoch:
                self._train_epoch(self._step // per_epoch, monitor)
        if self._method is not None:
            self._method.finish(self._optimizer)
        self._network.settle()

    def _train_epoch(self, epoch: int, monitor: Monitor) -> None:
        per_epoch = self._order.steps_per_epoch
        start = self._step - epoch * per_epoch
        began, before = time.perf_counter(), self._seconds
        self._model.train()
        self._wrapped.train()
        for inputs, targets in self._task.train.batches(self._order.epoch(epoch, start)):
            self._train_step(inputs, targets)
            self._step += 1
            self._seconds = before + time.perf_counter() - began
            done = self._step - epoch * per_epoch
            is_due = self._step % _RECORD_EVERY == 0
            monitor.advance(self._step, self._numbers() if is_due and not monitor.is_silent else None)
            if self._config.checkpoint_every and self._step % self._config.checkpoint_every == 0 and done < per_epoch:
                self._save(self._folder.last)
        speed = (per_epoch - start) * self._config.batch_size / (time.perf_counter() - began)
        self._sums = self._processes.sum(self._sums)
        numbers = {**self._numbers(), "samples_per_second": speed}
        self._sums = torch.zeros_like(self._sums)
        is_last = epoch + 1 == self._config.epochs
        is_best = False
        if is_last or (epoch + 1) % self._config.eval_every == 0:
            is_best = self._evaluate(numbers)
        self._seconds = before + time.perf_counter() - began
        self._save(self._folder.last)
        if is_best:
            self._save(self._folder.best)
        monitor.epoch(epoch + 1, self._step, numbers)
        if self._method is not None:
            monitor.mask(epoch + 1, self._step, self._method.present_mask())

    def _train_step(self, inputs: Any, targets: Tensor) -> None:
        config = self._config
        rate = learning_rate(config, self._step, self._order.steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        labels = self._task.labels(targets)
        inputs = laid_out(inputs, channels_last=config.channels_last)
        batch = mixed(inputs, labels, config.mixup, config.seed, self._step)
        with self._autocast():
            logits = self._task.logits(call(self._wrapped, batch.inputs))
        loss = batch.loss(logits, config.label_smoothing)
        if self._teacher is not None:
            with self._autocast():
                loss = self._teacher.loss(batch.inputs, logits, loss)
        self._processes.accelerator.backward(loss)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), config.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._processes.average_buffers(self._model)
        if self._method is not None:
            with self._autocast():
                self._method.step(lr=rate, batch=self._controller_batches)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).view(-1, len(targets)).all(0).sum()
            count = torch.full_like(correct, len(targets))
            self._sums += torch.stack([loss.detach() * len(targets), correct, count]).double()

    def _numbers(self) -> dict[str, float]:
        loss, correct, count = self._sums.tolist()
        rate = self._optimizer.param_groups[0]["lr"]
        numbers = {"loss": loss / max(1.0, count), "accuracy": 100 * correct / max(1.0, count), "lr": rate}
        if self._method is not None:
            numbers.update(self._method.metrics())
        return numbers

    def _evaluate(self, numbers: dict[str, float]) -> bool:
        """Add the test figures: of the plain network until the mask is frozen, then with dropped units at zero."""
        model, prefix = self._model, ""
        is_frozen = self._method is None or bool(self._method.metrics()["frozen"])
        if self._method is not None and is_frozen:
            model, prefix = self._network.masked(self._method.mask()), "masked_"
        figures = self._task.evaluate(model, self._autocast())
        numbers.update({f"{prefix}{name}": value for name, value in figures.items()})
        decisive = figures[self._task.figures[0].name]
        if not is_frozen or decisive <= self._best:
            return False
        self._best = decisive
        return True

    def _autocast(self) -> AbstractContextManager[Any]:
        is_on = self._config.precision == "bf16"
        return torch.autocast(self._processes.device.type, dtype=torch.bfloat16, enabled=is_on)

    def _save(self, path: Path) -> None:
        sums = self._processes.sum(self._sums)
        if self._processes.is_main:
            checkpoint.save(self._state(sums), path)
        self._processes.wait()

    def _state(self, sums: Tensor) -> dict[str, Any]:
        return {
            "step": self._step,
            "best": self._best,
            "seconds": self._seconds,
            "sums": sums,
            "controller_batches": self._controller_batches.taken,
            "model": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "method": None if self._method is None else self._method.state_dict(),
            "rng": rng.capture(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._step = state["step"]
        self._best = state["best"]
        self._seconds = self._earlier = state["seconds"]
        # Kept on one process only: they are added up over processes at the end of the epoch.
        self._sums = state["sums"] if self._processes.is_main else torch.zeros_like(self._sums)
        self._controller_batches.resume(state["controller_batches"])
        self._network.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._method is not None:
            self._method.load_state_dict(state["method"])
        if self._processes.is_main:
            rng.restore(state["rng"])
        else:
            self._seed()

    def _seed(self) -> None:
        """The global generators (dropout draws from them) differ between processes."""
        rng.seed_all(generator_seed(self._config.seed, _DROPOUT, self._processes.share.rank, self._step) % 2**32)


def training_order(config: TrainConfig, task: Task, processes: Processes) -> Shuffled:
    """The order of the training samples."""
    everything = torch.arange(len(task.train)).numpy()
    return Shuffled(everything, config.batch_size, config.seed, _TRAINING, processes.share)


def _controller_share(config: TrainConfig, task: Task) -> float:
    """5 % of the training samples, or what one batch needs."""
    return min(1.0, max(_CONTROLLER_SHARE, config.batch_size / len(task.train)))
