"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from atofx.train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of the ``step``-th optimizer step (0-based): linear warm-up, then the schedule over the rest."""
    total = config.epochs * steps_per_epoch
    warmup = min(config.warmup_epochs * steps_per_epoch, total)
    if step < warmup:
        return config.lr * (step + 1) / math.ceil(warmup)
    done = (step - warmup) / max(1.0, total - warmup)
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(step >= milestone * total for milestone in config.milestones)
    return config.lr
