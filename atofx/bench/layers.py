"""Where the time goes: every layer of the dense model beside its remains in the compact one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from atofx.bench.eager import forward, waits_for
from atofx.bench.interleave import Clock, Rounds, interleave

#: What runs outside of layers: additions, activations that are functions, reshapes, Python.
ELSEWHERE = "(between layers)"
_REST = ""


@dataclass(frozen=True)
class LayerTime:
    """One layer, or what runs between layers.

    Attributes:
        name: as in the model.
        kind: class of the dense layer.
        dense: median seconds of its calls in one forward pass.
        compact: the same in the compact model; 0 if the layer is gone.
    """

    name: str
    kind: str
    dense: float
    compact: float

    def lost(self, flops_left: float) -> float:
        """Seconds beyond what would be left had the time gone down as the whole model's FLOPs did.

        Over all layers they add up to what the whole model has lost. Negative where more than that was gained.

        Args:
            flops_left: compact FLOPs over dense FLOPs of the model.
        """
        return self.compact - flops_left * self.dense


def layer_times(
    dense: nn.Module, compact: nn.Module, inputs: Any, rounds: Rounds, clock: Clock = time.perf_counter
) -> tuple[LayerTime, ...]:
    """Time both models layer by layer, in turn, in PyTorch's eager mode.

    A layer is a module without modules inside. Looking at the clock around every layer costs time itself, which counts
    as time between layers; on a GPU every layer is waited for.

    Args:
        dense: in eval mode.
        compact: in eval mode; its layers have the names of those of ``dense``.
        inputs: of both.
        rounds: how often.
        clock: seconds since any moment.

    Returns:
        Layers in the order of the dense model, then what runs between them.
    """
    settle = waits_for(inputs)
    with _watched(dense, settle, clock) as first, _watched(compact, settle, clock) as second:
        runs = [_one_pass(model, inputs, watch) for model, watch in ((dense, first), (compact, second))]
        totals = interleave(runs, rounds, clock)
    names = {**dict.fromkeys(_layers(dense)), **dict.fromkeys(_layers(compact))}
    kinds = {**_layers(compact), **_layers(dense)}
    timed = [watch.passes[rounds.warm_up :] for watch in (first, second)]
    times = [_medians(passes, total) for passes, total in zip(timed, totals, strict=True)]
    found = [LayerTime(name, kinds[name], *(side.get(name, 0.0) for side in times)) for name in names]
    rest = LayerTime(ELSEWHERE, "", *(side[_REST] for side in times))
    return (*(layer for layer in found if layer.dense or layer.compact), rest)


def _layers(model: nn.Module) -> dict[str, str]:
    modules = dict(model.named_modules())
    return {name: type(m).__name__ for name, m in modules.items() if name and next(m.children(), None) is None}


class _Watch:
    """Seconds by layer, one dictionary a forward pass."""

    def __init__(self) -> None:
        self.passes: list[dict[str, float]] = []
        self._began: list[float] = []

    def attach(self, name: str, module: nn.Module, settle: Callable[[], None], clock: Clock) -> list[Any]:
        def before(*_: Any) -> None:
            settle()
            self._began.append(clock())

        def after(*_: Any) -> None:
            settle()
            spent = clock() - self._began.pop()
            self.passes[-1][name] = self.passes[-1].get(name, 0.0) + spent

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


@contextmanager
def _watched(model: nn.Module, settle: Callable[[], None], clock: Clock) -> Iterator[_Watch]:
    watch = _Watch()
    modules = dict(model.named_modules())
    handles = [handle for name in _layers(model) for handle in watch.attach(name, modules[name], settle, clock)]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _one_pass(model: nn.Module, inputs: Any, watch: _Watch) -> Callable[[], Any]:
    run = forward(model, inputs)

    def watched() -> Any:
        watch.passes.append({})
        return run()

    return watched


def _medians(passes: Sequence[dict[str, float]], totals: Sequence[float]) -> dict[str, float]:
    """By layer, and what is left of the whole passes."""
    names = dict.fromkeys(name for one in passes for name in one)
    medians = {name: statistics.median(one.get(name, 0.0) for one in passes) for name in names}
    rests = [total - sum(one.values()) for one, total in zip(passes, totals, strict=True)]
    return {**medians, _REST: statistics.median(rests)}
