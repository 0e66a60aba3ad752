"""What ``atofx prune`` does with images: accuracies, gradients for a criterion, and a short fine-tune."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import safe_open
from torch import Tensor, nn

from atofx.cli import models
from atofx.errors import ConfigError, did_you_mean
from atofx.ir.tensor_files import write_tensors
from atofx.train import rng
from atofx.train.classification import Classification
from atofx.train.config import TrainConfig
from atofx.train.engine import Engine
from atofx.train.evaluation import top1
from atofx.train.images import DataSet
from atofx.train.named_model import TORCHVISION, find_model
from atofx.train.network import Dense
from atofx.train.plan import in_order
from atofx.train.processes import Processes
from atofx.train.recipes import load_config
from atofx.train.run_folder import RunFolder, prepare

_GRADIENT_BATCHES = 10
#: What differs from the digits recipe for a network that is trained already.
_GENTLE: Mapping[str, Any] = {"method": "none", "flops": None, "lr": 0.01, "warmup_epochs": 0.0}
#: What `--set` may change: options of images and of plain training; the others are options of `atofx prune` itself, or
#: of methods.
_USED = frozenset(
    {
        "data_dir", "image_size", "augment", "color_jitter", "cache", "workers",
        "batch_size", "eval_batch_size", "eval_every", "checkpoint_every", "optimizer", "lr", "weight_decay",
        "momentum", "nesterov", "clip_norm", "warmup_epochs", "schedule", "milestones", "gamma", "label_smoothing",
        "mixup", "precision", "channels_last", "threads",
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Workbench:
    """Images, where they are computed on, and how a network is trained on them.

    Attributes:
        config: of the fine-tune.
        task: training and test images.
        processes: always one, on the GPU where there is one.
    """

    config: TrainConfig
    task: Classification
    processes: Processes

    @classmethod
    def open(cls, options: Mapping[str, Any], extra: Mapping[str, Any]) -> Workbench:
        """From options of :class:`TrainConfig`, ``model`` and ``data`` among them, and what the user sets beside them.

        Raises:
            ConfigError: an option is out of range, or ``extra`` has one that no fine-tune looks at.
            DataError: the data is missing or malformed.
        """
        for key in extra:
            if key not in _USED:
                hint = did_you_mean(key, _USED, f" (they are {', '.join(sorted(_USED))})")
                raise ConfigError(f"--set {key}: a fine-tune has no such option{hint}")
        config = load_config(None, {**_GENTLE, **options, **extra})
        processes = Processes.present()
        return cls(config, Classification.load(config, processes), processes)

    @property
    def data(self) -> DataSet:
        """The images."""
        return self.task.images

    def model(self, weights: str | None) -> models.Loaded:
        """The model for these images, with weights from a ``.safetensors`` file if given.

        Raises:
            ConfigError: no such model.
            FileError: the weights cannot be read or do not fit.
        """
        module = self._build()
        if weights == "pretrained":
            published = find_model(self.config.model, TORCHVISION).pretrained().module(self.config.model_args or {})
            models.load_state(module, published.state_dict(), weights)
        elif weights is not None:
            models.load_weights(module, weights)
        shape = (1, self.data.channels, self.data.image_size, self.data.image_size)
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.processes.device)
        module.to(self.processes.device).eval()
        return models.Loaded(self.config.model, self.data.name, module, inputs, self._build, weights is not None)

    def gradient_batches(self) -> list[tuple[Tensor, Tensor]]:
        """A few training batches, unaugmented, for criteria that look at gradients."""
        plan = in_order(len(self.data.train), self.config.batch_size, self.processes.share)
        return list(self.data.train.batches(itertools.islice(plan, _GRADIENT_BATCHES)))

    def top1(self, module: nn.Module) -> float:
        """Percentage of test images whose class is predicted."""
        return top1(module, self.data.test, self.config.eval_batch_size, self.processes)

    def train(self, module: nn.Module, folder: Path, console: Console) -> None:
        """Fine-tune in place; checkpoints and records are left in ``folder``.

        Raises:
            ConfigError: the folder holds a run already.
        """
        run_folder = RunFolder(folder)
        prepare(run_folder, self.config)
        with rng.isolated():
            Engine(self.config, self.task, Dense(module), None, self.processes, run_folder, console).fit()

    def _build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return self.task.untrained(self.config).eval()


def replace_tensors(path: Path, module: nn.Module) -> None:
    """Put the tensors of a fine-tuned compact model into the file that :func:`atofx.save` wrote for it."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        keys = list(file.keys())
    state = module.state_dict()
    write_tensors({key: state[key].detach().cpu().contiguous() for key in keys}, path, metadata)
