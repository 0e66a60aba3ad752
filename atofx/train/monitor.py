"""What a run shows and records: progress bars, one line an epoch, JSON lines, TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from atofx.train.heat_map import heat_map
from atofx.train.run_folder import RunFolder
from atofx.train.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Before:
    """How long an earlier phase of a run was."""

    epochs: int = 0
    steps: int = 0


NOTHING_BEFORE = Before()

#: Names of numbers and how they are shown.
Formats = tuple[tuple[str, str], ...]
FORMATS: Formats = (
    ("loss", "loss {:.3f}"),
    ("accuracy", "accuracy {:.1f} %"),
    ("flops", "FLOPs {:.1%}"),
    ("gates_open", "gates open {:.1%}"),
    ("validation_top1", "validation top-1 {:.2f} %"),
)


def formats_of(task: Task) -> Formats:
    """With the figures of a task, of the plain and of the masked network, and the speed."""
    plain = [(f.name, f"test {f.title} {{:.2f}} %") for f in task.figures]
    masked = [(f"masked_{f.name}", f"masked test {f.title} {{:.2f}} %") for f in task.figures]
    return (*FORMATS, *plain, *masked, ("samples_per_second", f"{{:.0f}} {task.words.samples}/s"))


class Monitor:
    """Speaks and writes on the main process only; a silent one does nothing.

    Args:
        folder: where the records go; None is silent.
        console: where the lines go.
        title: of the progress bar.
        epochs: of the run.
        steps_per_epoch: of the run.
        start: the step training begins with; records of later steps (of a run that was killed) are discarded.
        before: epochs and steps of an earlier phase of the same run: what is recorded counts on from there.
        formats: how numbers are shown, in this order; others are recorded only.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        console: Console,
        title: str,
        epochs: int,
        steps_per_epoch: int,
        start: int,
        before: Before = NOTHING_BEFORE,
        formats: Formats = FORMATS,
    ) -> None:
        self._formats = formats
        self._console = console
        self._title = title
        self._before = before
        self._epochs = before.epochs + epochs
        self._total = epochs * steps_per_epoch
        self._start = start
        self._folder = folder
        self._file: IO[str] | None = None
        self._board: SummaryWriter | None = None
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._shares: list[dict[str, float]] = []  # of every group, at the end of every epoch

    def __enter__(self) -> Self:
        """Open the files and start the bars."""
        if self._folder is not None:
            earlier = _discard_after(self._folder, self._before.steps + self._start)
            masks = [(record["kept"], record["units"]) for record in earlier if record["kind"] == "mask"]
            self._shares = [{name: kept[name] / units[name] for name in units} for kept, units in masks]
            self._file = self._folder.metrics.open("a", encoding="utf-8")
            self._board = SummaryWriter(str(self._folder.tensorboard), purge_step=self._before.steps + self._start)
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
            self._task = self._progress.add_task(self._title, total=self._total, completed=self._start, numbers="")
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        if self._progress is not None:
            self._progress.stop()
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    @property
    def is_silent(self) -> bool:
        """Whether nobody listens."""
        return self._folder is None

    def advance(self, step: int, values: Mapping[str, float] | None = None) -> None:
        """Move the bar to ``step`` steps done; with ``values``, show and record them."""
        if self._progress is None:
            return
        if values is None:
            self._progress.update(self._task, completed=step)
            return
        self._progress.update(self._task, completed=step, numbers=self._phrase(values))
        self._record("step", step, values)

    def epoch(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Print and record the end of an epoch."""
        if self._progress is None:
            return
        epoch += self._before.epochs
        line = f"{self._title} epoch {epoch}/{self._epochs}  {self._phrase(values)}"
        self._console.print(line, highlight=False, soft_wrap=True)
        self._record("epoch", step, {"epoch": epoch, **values})

    def mask(self, epoch: int, step: int, mask: Mapping[str, Tensor]) -> None:
        """Record how many units of every group are kept at the end of an epoch; TensorBoard shows it as a heat map."""
        if self._file is None or self._board is None or not mask:
            return
        epoch, step = epoch + self._before.epochs, step + self._before.steps
        units = {name: vector.numel() for name, vector in mask.items()}
        kept = {name: int(vector.sum()) for name, vector in mask.items()}
        self._write({"kind": "mask", "step": step, "epoch": epoch, "kept": kept, "units": units})
        self._shares.append({name: kept[name] / units[name] for name in units})
        self._board.add_image("mask/kept", heat_map(self._shares), step)

    def _record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        assert self._board is not None
        step += self._before.steps
        self._write({"kind": kind, "step": step, **values})
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def _phrase(self, values: Mapping[str, float]) -> str:
        return "  ".join(text.format(values[name]) for name, text in self._formats if name in values)

    def _write(self, record: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def _discard_after(folder: RunFolder, step: int) -> list[dict[str, Any]]:
    """Drop records beyond ``step``, and a last line that a kill cut short; what is left."""
    if not folder.metrics.exists():
        return []
    kept = []
    for line in folder.metrics.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["step"] <= step:
            kept.append(record)
    folder.metrics.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    return kept
