"""Several methods under one configuration, each in a folder of its own."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from atofx.train import run
from atofx.train.build_method import check_method
from atofx.train.config import TrainConfig
from atofx.train.run_folder import RunFolder, check


@dataclass(frozen=True)
class Compared:
    """A finished run of the comparison.

    Attributes:
        method: its name.
        folder: of the run.
        samples_per_second: median over the epochs of its training.
    """

    method: str
    folder: Path
    samples_per_second: float


def run_methods(config: TrainConfig, methods: Iterable[str], out: Path) -> tuple[Compared, ...]:
    """Train with every method, in ``out/METHOD``; finished runs are kept, an interrupted one goes on.

    Args:
        config: of all runs; ``method``, ``out`` and ``resume`` are set for each.
        methods: their names; ``none`` is dense training.
        out: folder of the folders; made if missing.

    Raises:
        ConfigError: an unknown method, or a folder that holds a run with other options.
        FileError: a folder that cannot be made or written into.
    """
    names = tuple(dict.fromkeys(methods))
    for name in names:
        check_method(name)
    mine = {name: _own(config, name, RunFolder(out / name)) for name in names}
    for name, own in mine.items():
        check(RunFolder(out / name), own)
    for name, own in mine.items():
        if not RunFolder(out / name).result.exists():
            run(own)
    return tuple(Compared(name, out / name, _speed(RunFolder(out / name))) for name in names)


def _own(config: TrainConfig, method: str, folder: RunFolder) -> TrainConfig:
    return config.updated(method=method, out=str(folder.path), resume=folder.config.exists())


def _speed(folder: RunFolder) -> float:
    records = map(json.loads, folder.metrics.read_text(encoding="utf-8").splitlines())
    names = ("samples_per_second", "images_per_second")  # the second is in records of older runs
    return float(statistics.median(record[name] for record in records for name in names if name in record))
