"""Milliseconds of a forward pass, for several models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from atofx.bench.eager import prepare
from atofx.bench.interleave import Rounds, interleave


def latencies_ms(models: Sequence[nn.Module], inputs: Any, rounds: Rounds) -> list[list[float]]:
    """Milliseconds of eager forward passes of each model, round by round; the models are left in eval mode."""
    runs = prepare([model.eval() for model in models], inputs)
    return [[1000 * seconds for seconds in times] for times in interleave(runs, rounds)]
