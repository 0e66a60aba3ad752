"""Milliseconds of a forward pass, for several models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from atofx.bench.eager import prepare
from atofx.bench.interleave import Rounds, interleave
from atofx.bench.spread import Spread


def latencies_ms(models: Sequence[nn.Module], inputs: Any, rounds: Rounds) -> list[Spread]:
    """Milliseconds of one eager forward pass of each model; the models take turns and are left in eval mode."""
    runs = prepare([model.eval() for model in models], inputs)
    return [Spread.of([1000 * seconds for seconds in times]) for times in interleave(runs, rounds)]
