"""All that is measured of one dense and compact pair: settings, sizes, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from atofx.bench.backend import check
from atofx.bench.compare import Comparison, Side, compare
from atofx.bench.interleave import Rounds
from atofx.bench.layers import LayerTime, layer_times
from atofx.bench.machine import Machine, this_machine
from atofx.bench.setting import Setting, place_inputs, place_model
from atofx.bench.size import file_bytes
from atofx.bench.spread import realised
from atofx.passes.inputs import ExampleInputs


@dataclass(frozen=True)
class Amounts:
    """What a model holds and does, whatever runs it.

    Attributes:
        flops: multiply-adds (counted once) of a forward pass on the example input.
        params: number of parameters.
        file_bytes: of its state dict as a safetensors file.
    """

    flops: int
    params: int
    file_bytes: int


@dataclass(frozen=True)
class Pair:
    """What is measured.

    Attributes:
        dense: the model as it was.
        compact: what is left of it.
        inputs: example inputs of both.
        flops: multiply-adds (counted once) of both on the example.
        params: number of parameters of both.
    """

    dense: nn.Module
    compact: nn.Module
    inputs: ExampleInputs
    flops: tuple[int, int]
    params: tuple[int, int]


@dataclass(frozen=True)
class BenchReport:
    """What :func:`measure` found.

    Attributes:
        machine: what ran it.
        dense: amounts of the dense model.
        compact: amounts of the compact model.
        comparisons: one a setting.
        layers: times by layer in PyTorch's eager mode, in the first setting's batch, dtype and memory format; empty if
            not asked for.
    """

    machine: Machine
    dense: Amounts
    compact: Amounts
    comparisons: tuple[Comparison, ...]
    layers: tuple[LayerTime, ...]

    @property
    def flops_left(self) -> float:
        """Compact FLOPs over dense FLOPs."""
        return self.compact.flops / self.dense.flops

    def realised(self, comparison: Comparison) -> float:
        """Dense time over compact time, over dense FLOPs over compact FLOPs: 1 means all that FLOPs promise."""
        return realised(comparison.speedup.median, self.dense.flops, self.compact.flops)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; times in seconds, sizes in bytes, FLOPs in multiply-adds counted once."""
        return {
            "flops_unit": "fused multiply-adds",
            "machine": asdict(self.machine),
            "dense": asdict(self.dense),
            "compact": asdict(self.compact),
            "comparisons": [self._row(comparison) for comparison in self.comparisons],
            "layers": [{**asdict(layer), "lost": layer.lost(self.flops_left)} for layer in self.layers],
        }

    def _row(self, comparison: Comparison) -> dict[str, Any]:
        return {
            "setting": asdict(comparison.setting),
            "speedup": asdict(comparison.speedup),
            "realised": self.realised(comparison),
            "pays": comparison.pays,
            "dense": _side(comparison.dense),
            "compact": _side(comparison.compact),
        }


def _side(side: Side) -> dict[str, Any]:
    return {"latency": asdict(side.latency), "throughput": side.throughput, **asdict(side)}


def measure(
    pair: Pair,
    settings: Sequence[Setting],
    rounds: Rounds,
    *,
    copies: int = 1,
    profile_rounds: Rounds | None = None,
    progress: Callable[[Setting], None] = lambda _: None,
) -> BenchReport:
    """Measure a pair in every setting, one after the other.

    Args:
        pair: the models.
        settings: at least one.
        rounds: how often in each.
        copies: of both models that are measured in each; see :func:`compare`.
        profile_rounds: how often layer by layer; None: not at all.
        progress: told every setting before it is measured.

    Raises:
        ConfigError: a setting cannot be measured here.
    """
    for setting in settings:
        check(setting)
    machine = this_machine(settings[0].device)
    comparisons = []
    for setting in settings:
        progress(setting)
        comparisons.append(compare(pair.dense, pair.compact, pair.inputs, setting, rounds, copies=copies))
    layers: tuple[LayerTime, ...] = ()
    if profile_rounds is not None:
        first = settings[0]
        dense, compact = (place_model(model, first) for model in (pair.dense, pair.compact))
        layers = layer_times(dense, compact, place_inputs(pair.inputs, first), profile_rounds)
    sizes = (file_bytes(model) for model in (pair.dense, pair.compact))
    large, small = (Amounts(*numbers) for numbers in zip(pair.flops, pair.params, sizes, strict=True))
    return BenchReport(machine, large, small, tuple(comparisons), layers)
