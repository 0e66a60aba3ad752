"""Dense against compact in one setting."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from atofx.bench.backend import BACKENDS, check, results
from atofx.bench.eager import forward
from atofx.bench.interleave import Clock, Rounds, interleave
from atofx.bench.memory import peak_on_gpu
from atofx.bench.setting import Setting, place_inputs, place_model
from atofx.bench.spread import Spread, pairwise
from atofx.bench.traffic import traffic
from atofx.errors import AtofxError, ConfigError
from atofx.passes.inputs import ExampleInputs
from atofx.passes.verify import largest_error


@dataclass(frozen=True)
class Side:
    """One model in one setting.

    Attributes:
        seconds: of every timed forward pass, in order.
        batch: samples in a forward pass.
        moved: bytes that the operations of an eager pass read and write, every operand and result once an operation.
        peak: most bytes of results alive at once, on top of weights and inputs: on a CPU those of an eager pass, on a
            GPU what the allocator held in the setting's back end (eager for recorded graphs).
        deviation: largest relative difference of the results from an eager pass in float32.
    """

    seconds: tuple[float, ...]
    batch: int
    moved: int
    peak: int
    deviation: float

    @property
    def latency(self) -> Spread:
        """Seconds of a forward pass."""
        return Spread.of(self.seconds)

    @property
    def throughput(self) -> float:
        """Samples a second, at the median."""
        return self.batch / self.latency.median


@dataclass(frozen=True)
class Comparison:
    """Both models in one setting; the i-th passes of both ran one after the other.

    Attributes:
        setting: the circumstances, with the batch size that was used.
        dense: the model as it was.
        compact: what is left of it.
    """

    setting: Setting
    dense: Side
    compact: Side

    @property
    def speedup(self) -> Spread:
        """How many times faster the compact model is: dense time over compact time, pair by pair."""
        return Spread.of(pairwise(self.dense.seconds, self.compact.seconds))

    @property
    def pays(self) -> bool:
        """Whether the compact model is the faster one, at the median."""
        return self.speedup.median > 1.0


def compare(
    dense: nn.Module,
    compact: nn.Module,
    inputs: ExampleInputs,
    setting: Setting,
    rounds: Rounds,
    clock: Clock = time.perf_counter,
    *,
    copies: int = 1,
) -> Comparison:
    """Measure both models in one setting, in turn.

    Args:
        dense: any module; it is left as it was.
        compact: another one that takes the same inputs; it is left as it was.
        inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        setting: the circumstances.
        rounds: how often.
        clock: seconds since any moment.
        copies: of both models that are measured, one pair after the other, each as often as ``rounds`` says: where
            weights come to lie in memory changes times by several percent.

    Raises:
        ConfigError: the back end or the device is missing here, or the models do not run in this setting; the message
            says which and what to do.
    """
    check(setting)
    placed = _placed(dense, compact, setting)
    given = place_inputs(inputs, setting)
    try:
        traffics = [traffic(forward(model, given)) for model in placed]
        runs = BACKENDS[setting.backend].prepare(placed, given)
        found = [run() for run in runs]
        expected = [_expected(module, inputs, setting) for module in (dense, compact)]
        deviations = [_deviation(*both) for both in zip(found, expected, strict=True)]
        peaks = [one.peak for one in traffics]
        if setting.device == "cuda":  # recorded graphs took their memory as they were recorded
            measured = BACKENDS["eager"].prepare(placed, given) if setting.backend == "cudagraphs" else runs
            peaks = [peak_on_gpu(run) for run in measured]
        seconds = interleave(runs, rounds, clock)
        for _ in range(1, copies):
            more = interleave(BACKENDS[setting.backend].prepare(_placed(dense, compact, setting), given), rounds, clock)
            seconds = tuple(before + times for before, times in zip(seconds, more, strict=True))
    except AtofxError as error:
        raise ConfigError(f"{setting}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"the models do not run in the setting {setting}: {reason}; leave that setting out, or for another batch "
            "size give an example input of that size"
        ) from error
    batch = _batch_of(given)
    sides = [
        Side(times, batch, moving.moved, peak, deviation)
        for times, moving, peak, deviation in zip(seconds, traffics, peaks, deviations, strict=True)
    ]
    return Comparison(replace(setting, batch=batch), *sides)


def _placed(dense: nn.Module, compact: nn.Module, setting: Setting) -> list[nn.Module]:
    """Copies of both in the setting; earlier ones are let go of first: graphs and modules refer to each other."""
    gc.collect()
    return [place_model(module, setting) for module in (dense, compact)]


def _expected(module: nn.Module, inputs: ExampleInputs, setting: Setting) -> Any:
    """What an eager pass in float32 gives."""
    plain = Setting(batch=setting.batch, device=setting.device)
    return forward(place_model(module, plain), place_inputs(inputs, plain))()


def _deviation(result: Any, expected: Any) -> float:
    try:
        return largest_error(results(result), results(expected))
    except ValueError:
        return float("inf")


def _batch_of(inputs: Any) -> int:
    """Samples in a pass: the first dimension of the first input, or the entries of a list, as detectors take images."""
    values = tuple(inputs.values()) if isinstance(inputs, dict) else inputs
    first = values[0] if isinstance(values, tuple) and values else values
    if isinstance(first, list):
        return max(len(first), 1)
    return first.shape[0] if isinstance(first, torch.Tensor) and first.dim() else 1
