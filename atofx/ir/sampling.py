"""Random masks under limits."""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch

from atofx.errors import MaskError
from atofx.ir.groups import Group
from atofx.ir.limits import Limits, nearest
from atofx.ir.mask import Mask


def random_mask(groups: Iterable[Group], keep: float, seed: int, limits: Limits) -> Mask:
    """Random units of every prunable group: as many as are allowed that come nearest to ``max(1, round(keep * size))``.

    Raises:
        MaskError: ``keep`` is not in (0, 1].
        ConfigError: a pattern of the limits covers no group.
    """
    if not 0 < keep <= 1:
        raise MaskError(f"keep must be in (0, 1], got {keep}")
    groups = tuple(groups)
    allowed = limits.allowed_counts(groups)
    generator = random.Random(seed)
    vectors = {}
    for group in groups:
        kept = nearest(allowed[group.name], torch.tensor(max(1, round(keep * group.size))))
        vector = torch.zeros(group.size, dtype=torch.bool)
        vector[generator.sample(range(group.size), int(kept))] = True
        vectors[group.name] = vector
    return Mask(vectors)
