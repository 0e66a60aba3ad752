"""Knowledge distillation: a network learns from the labels and from what a trained teacher says of the same samples.

Source: Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network* (2015); weights as in the code of
*Transformable Architecture Search* (NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atofx.errors import ConfigError
from atofx.methods.protocol import call
from atofx.train import checkpoint
from atofx.train.config import TrainConfig
from atofx.train.evaluation import logits_of
from atofx.train.run_folder import RunFolder
from atofx.train.task import Task

#: What ``distill`` says for the dense network of the same run.
BASELINE = "baseline"


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network in eval mode and how much it has to say.

    Attributes:
        network: takes the student's inputs.
        alpha: weight of the teacher; 1 - alpha is that of the labels.
        temperature: both networks' logits are divided by it.
        logits: finds them in the network's output.
    """

    network: nn.Module
    alpha: float
    temperature: float
    logits: Callable[[Any], Tensor] = logits_of

    def loss(self, inputs: Any, logits: Tensor, of_labels: Tensor) -> Tensor:
        """(1 - alpha) of_labels + alpha T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

        Args:
            inputs: what the student saw.
            logits: the student's, (rows, choices).
            of_labels: the student's loss on the labels, a scalar.
        """
        with torch.no_grad():
            wanted = self.logits(call(self.network, inputs)).float()
        return (1 - self.alpha) * of_labels + self.alpha * soft_target_loss(logits.float(), wanted, self.temperature)


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of two (rows, choices) logits, mean over the rows."""
    mine, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)


def load_teacher(path: Path, config: TrainConfig, task: Task, device: torch.device) -> Teacher:
    """The network that the run in a folder has trained.

    Args:
        path: folder of a run; its own configuration says which network it is.
        config: of the student's run.
        task: the student's.
        device: where the teacher goes.

    Raises:
        ConfigError: the folder holds no run with a checkpoint, or its network does not fit the data.
    """
    folder = RunFolder(path)
    if not (folder.config.exists() and folder.last.exists()):
        raise ConfigError(
            f"distill: {str(path)!r} holds no trained network ({folder.config.name} and {folder.last.name}); give the "
            "folder of a run of atofx train, such as one with --method none"
        )
    other = TrainConfig.from_yaml(folder.config)
    if other.task != config.task:
        raise ConfigError(f"distill: the network in {str(path)!r} has learnt task {other.task}, not {config.task}")
    network = task.teacher(other, path)
    try:
        network.load_state_dict(checkpoint.weights(folder.last))
    except RuntimeError as error:  # sizes that differ
        raise ConfigError(f"distill: the {other.model} in {str(path)!r} is not one for {task.name}: {error}") from error
    network = network.to(device).eval().requires_grad_(False)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Teacher(network, config.distillation.alpha, config.distillation.temperature, task.logits)
