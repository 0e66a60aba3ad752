"""The global random states of Python, NumPy and torch: kept apart for a run, saved and restored with checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def isolated() -> Iterator[None]:
    """Give the caller's random states back at the end."""
    before = capture()
    try:
        yield
    finally:
        restore(before)


def seed_all(seed: int) -> None:
    """Seed all global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a user's model may draw from it
    torch.manual_seed(seed)


def capture() -> dict[str, Any]:
    """The states, as tensors, numbers and lists."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    words = numpy_state["state"]
    return {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {"key": words["key"].tolist(), "pos": int(words["pos"])}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(states: Mapping[str, Any]) -> None:
    """Back to what :func:`capture` saw."""
    random.setstate(states["python"])
    words = states["numpy"]["state"]
    key = np.asarray(words["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": words["pos"]}})  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
