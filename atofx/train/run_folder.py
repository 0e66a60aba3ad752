"""The folder of a run: where it is, whether it may be used, and what lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atofx.errors import ConfigError
from atofx.ir.files import check_writable
from atofx.train.config import TrainConfig

# These say where and whether, not what: a resumed run may differ in them.
_FREE = frozenset(
    {"out", "resume", "workers", "threads", "checkpoint_every", "data_dir", "eval_batch_size", "latency_batch"}
)

_CUT = "model.safetensors"  # what a folder of `atofx prune` or `atofx compact` holds and a run does not


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration of the run, YAML."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the highest test accuracy since the mask was frozen."""
        return self.path / "best.safetensors"

    @property
    def search(self) -> Path:
        """The checkpoint of the search for a structure, for methods that train the compact network only."""
        return self.path / "search.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def mask(self) -> Path:
        """The frozen mask, JSON."""
        return self.path / "mask.json"

    @property
    def compact(self) -> Path:
        """The compact model, for :func:`atofx.load`."""
        return self.path / "compact.safetensors"

    @property
    def result(self) -> Path:
        """The numbers of the final table, JSON."""
        return self.path / "result.json"

    @property
    def baseline(self) -> RunFolder:
        """The folder of the dense baseline."""
        return RunFolder(self.path / "baseline")


def choose(config: TrainConfig) -> Path:
    """``config.out``, or a fresh name under ``runs/``."""
    if config.out is not None:
        return Path(config.out).expanduser()
    words = (config.method, config.model, config.data)
    stem = "-".join(word.replace(":", "-").replace("/", "-").strip("-") for word in words)
    number = 1
    while (Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return Path("runs") / f"{stem}-{number}"


def check(folder: RunFolder, config: TrainConfig) -> None:
    """Refuse a folder that this run may not use.

    Raises:
        ConfigError: it holds a run already and ``config.resume`` is off, or it holds a different run and it is on; or
            it holds what `atofx prune` or `atofx compact` left.
        FileError: it cannot be made or written into.
    """
    check_writable(folder.path)
    if (folder.path / _CUT).exists():
        raise ConfigError(f"{str(folder.path)!r} holds a model that was cut already; choose another folder with --out")
    if folder.config.exists():
        if not config.resume:
            raise ConfigError(
                f"{str(folder.path)!r} holds a run already; continue it with --resume, or choose another with --out"
            )
        _require_same(TrainConfig.from_yaml(folder.config), config, folder.path)


def prepare(folder: RunFolder, config: TrainConfig) -> None:
    """Make the folder and write the configuration into it.

    Raises:
        ConfigError: it may not be used (:func:`check`) or cannot be written.
    """
    check(folder, config)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.config.write_text(config.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the run folder {str(folder.path)!r}: {error}") from error


def _require_same(before: TrainConfig, now: TrainConfig, path: Path) -> None:
    changed = [
        f"{name} was {getattr(before, name)!r}, now {getattr(now, name)!r}"
        for name in TrainConfig.model_fields
        if name not in _FREE and getattr(before, name) != getattr(now, name)
    ]
    if changed:
        raise ConfigError(
            f"the run in {str(path)!r} was started with other options: {'; '.join(changed)}; "
            "it goes on only with those (`atofx train` takes them from the folder: give --resume and --out alone); for "
            "others choose another folder with --out"
        )
