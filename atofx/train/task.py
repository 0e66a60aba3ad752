"""What is learnt: the data, the network for it, what its outputs mean, and how well a network does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from atofx.train.config import TrainConfig
from atofx.train.plan import Batch

if TYPE_CHECKING:
    from atofx.train.images import DataSet


class Samples(Protocol):
    """What a network learns from, one by one: batches by plan."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batches(self, plan: Iterable[Batch]) -> Iterator[tuple[Any, Any]]:
        """For each planned batch the network's inputs (a tensor, or tensors by keyword) and targets (N, ...)."""
        ...


@dataclass(frozen=True)
class Figure:
    """A figure of a network on the test data, in percent.

    Attributes:
        name: in files and records.
        title: in tables.
    """

    name: str
    title: str


@dataclass(frozen=True)
class Words:
    """What the things of a task are called.

    Attributes:
        sample: what one forward pass takes.
        samples: several of them.
        tested: what the figures are of.
        answer: what a network says of one of these.
    """

    sample: str
    samples: str
    tested: str
    answer: str


class Task(Protocol):
    """Everything about a training that depends on what is learnt; the engine and the methods know no more of it."""

    @property
    def name(self) -> str:
        """The data, as the user wrote it."""

    @property
    def words(self) -> Words:
        """What its things are called."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What :meth:`evaluate` gives; the first decides which checkpoint is the best."""

    @property
    def train(self) -> Samples:
        """The training samples."""

    @property
    def images(self) -> DataSet | None:
        """The data as labelled images, for methods that search a structure on some; None if it is none."""

    def summary(self) -> str:
        """The data in a few words."""

    def model(self) -> nn.Module:
        """The network before the training, on its device, in the mode it is to be traced in.

        Raises:
            ConfigError: it does not fit the data.
        """

    def teacher(self, config: TrainConfig, folder: Path) -> nn.Module:
        """The untrained network of another run of this task, for this run's data.

        Raises:
            ConfigError: it does not fit the data.
        """

    def example(self, count: int) -> Any:
        """Inputs of ``count`` samples, for tracing and timing; the same on every call."""

    def logits(self, output: Any) -> Tensor:
        """Scores in a network's output, (answers x batch, choices): first answers of the whole batch, then second."""

    def labels(self, targets: Tensor) -> Tensor:
        """The right choices, (answers x batch,), int64."""

    def evaluate(self, model: nn.Module, autocast: AbstractContextManager[object] | None = None) -> dict[str, float]:
        """Each figure by name, over all processes; the model's mode is restored."""

    def compare(self, masked: nn.Module, compact: nn.Module) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The figures of both models, which must give the same answer everywhere.

        Raises:
            VerifyError: an answer differs.
        """

    def keep(self, folder: Path) -> None:
        """Leave in a run's folder what one needs besides weights to use the network."""


def loss_of(task: Task) -> Callable[[Any, Tensor], Tensor]:
    """Mean cross-entropy of a network's whole output and a batch's targets, for methods that look at gradients."""

    def loss(output: Any, targets: Tensor) -> Tensor:
        return F.cross_entropy(task.logits(output), task.labels(targets))

    return loss
