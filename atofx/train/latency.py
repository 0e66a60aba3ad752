"""How long a forward pass takes, for several models side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WARM_UP = 3
_LEAST, _MOST = 5, 100


@torch.inference_mode()
def latencies_ms(models: Sequence[nn.Module], inputs: Tensor, seconds: float = 3.0) -> list[float]:
    """Median milliseconds of one forward pass of each model in eval mode.

    The models take turns, so that a busy machine slows all of them alike; the measurement ends after about ``seconds``.
    """
    for model in models:
        model.eval()
        for _ in range(_WARM_UP):
            model(inputs)
    times: list[list[float]] = [[] for _ in models]
    started = time.perf_counter()
    while len(times[0]) < _LEAST or (len(times[0]) < _MOST and time.perf_counter() - started < seconds):
        for model, record in zip(models, times, strict=True):
            record.append(_once(model, inputs))
    return [statistics.median(record) for record in times]


def _once(model: nn.Module, inputs: Tensor) -> float:
    _settle(inputs)
    begin = time.perf_counter()
    model(inputs)
    _settle(inputs)
    return 1000 * (time.perf_counter() - begin)


def _settle(inputs: Tensor) -> None:
    """A GPU works behind the program's back; wait for it."""
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)
