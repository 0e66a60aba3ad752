"""The small part of the training set that the controller learns on."""

from __future__ import annotations

import torch

from atofx.errors import ConfigError


def subset_indices(size: int, *, fraction: float = 0.05, seed: int = 0) -> torch.Tensor:
    """Sorted indices of a random ``fraction`` of ``size`` samples, at least one; the same for the same seed.

    ATO's controller learns on 5 % of the training set (1 / 20, as it takes one step in twenty); the model still trains
    on all of it (authors' code).
    """
    if size < 1 or not 0 < fraction <= 1:
        raise ConfigError(f"a subset needs size >= 1 and a fraction in (0, 1], got size={size}, fraction={fraction}")
    generator = torch.Generator().manual_seed(seed)
    count = max(1, round(size * fraction))
    return torch.randperm(size, generator=generator)[:count].sort().values
