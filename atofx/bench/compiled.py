"""``torch.compile`` with its default options, for the very shapes of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from atofx.bench.eager import forward
from atofx.errors import ConfigError


def prepare(models: Sequence[nn.Module], inputs: Any) -> tuple[Callable[[], Any], ...]:
    """Compile each model and run it once. What was compiled before is forgotten: limits on compilations are global.

    Raises:
        ConfigError: torch.compile cannot take a model, or there is no compiler on this machine.
    """
    from torch._dynamo.exc import TorchDynamoException

    torch.compiler.reset()
    runs = tuple(forward(_compiled(model), inputs) for model in models)
    try:
        for run in runs:
            run()
    except TorchDynamoException as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"torch.compile failed: {first}; it needs a C++ compiler on a CPU; leave out `compile` to measure the rest"
        ) from error
    return runs


def _compiled(model: nn.Module) -> nn.Module:
    result = torch.compile(model, dynamic=False)
    assert isinstance(result, nn.Module)
    return result
