"""The network's optimizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from atofx.train.config import TrainConfig


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over every trainable parameter; all of them decay, as in the published runs of ATO."""
    return optimizer_of(config, [parameter for parameter in model.parameters() if parameter.requires_grad])


def optimizer_of(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The same over these parameters."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )
