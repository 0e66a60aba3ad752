"""Numbers about samples: medians with quartiles, ratios pair by pair, what is realised of an ideal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The middle of some samples, and between which numbers the middle half of them lies.

    Attributes:
        lower: first quartile, in the unit of the samples.
        median: second quartile.
        upper: third quartile.
    """

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Quartiles, interpolated between neighbours; of at least one sample."""
        lower, median, upper = np.quantile(np.asarray(samples, dtype=np.float64), (0.25, 0.5, 0.75))
        return cls(float(lower), float(median), float(upper))


def pairwise(dense: Sequence[float], compact: Sequence[float]) -> tuple[float, ...]:
    """``dense[i] / compact[i]``: how many times faster, for neighbours in time."""
    return tuple(d / c for d, c in zip(dense, compact, strict=True))


def realised(speedup: float, flops_dense: int, flops_compact: int) -> float:
    """Realised over ideal: dense time / compact time, over dense FLOPs / compact FLOPs.

    1 means that time went down as the FLOPs did. Both counts are multiply-adds counted once.
    """
    return speedup * flops_compact / flops_dense
