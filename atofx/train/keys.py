"""Randomness that is a pure function of the seed and of what it is for.

Data order and augmentation draw from here and not from torch's global generator, so that they do not depend on the
number of processes or workers, and a resumed run needs no state of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

UInt64 = npt.NDArray[np.uint64]


def sample_keys(seed: int, purpose: int, epoch: int, indices: npt.NDArray[np.int64]) -> UInt64:
    """One 64-bit key per sample, for its augmentation in this epoch."""
    base = np.uint64(generator_seed(seed, purpose, epoch))
    return _mix(indices.astype(np.uint64) + base)


def uniform(keys: UInt64, draw: int) -> npt.NDArray[np.float64]:
    """The ``draw``-th uniform number in [0, 1) of every key."""
    with np.errstate(over="ignore"):
        words = _mix(keys + np.uint64(draw + 1) * np.uint64(0x9E3779B97F4A7C15))
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def generator_seed(*parts: int) -> int:
    """A 63-bit seed made of several integers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*parts: int) -> torch.Generator:
    """A CPU generator seeded with :func:`generator_seed`."""
    return torch.Generator().manual_seed(generator_seed(*parts))


def _mix(words: UInt64) -> UInt64:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014): close seeds give unrelated words."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)))
