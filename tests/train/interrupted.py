"""Runs that are interrupted, and what must be the same after they went on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atofx.train.config import TrainConfig

ROOT = Path(__file__).parents[2]


class StopError(Exception):
    """Stands for a kill."""


def stop_at(count: int, place: type[Any], method: str, run: Callable[[], object]) -> None:
    """Run until a method of a class is called the ``count``-th time."""
    original, calls = getattr(place, method), 0

    def stopping(self: Any, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == count:
            raise StopError
        original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, method, stopping)
        with pytest.raises(StopError):
            run()


def kill_at(step: int, config: TrainConfig, within: float) -> None:
    """Run a configuration in another process and kill it once its records reach a step.

    Args:
        step: an epoch ends there.
        config: of the run.
        within: seconds, or the test fails.
    """
    folder = Path(str(config.out))
    file = folder.parent / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "-m", "atofx", "train", "--config", str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + within
    while not (metrics.exists() and f'"step": {step},' in metrics.read_text(encoding="utf-8")):
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()


def assert_same_tensors(one: Path, other: Path) -> None:
    """Two safetensors files hold the same tensors, bit for bit."""
    whole, resumed = load_file(one), load_file(other)
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
