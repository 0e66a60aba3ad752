"""The same model cut by Torch-Pruning to as many FLOPs, for comparison."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from atofx.cost import count_flops
from benchmarks._coverage.outputs import output_layers

_STEPS = 12


def cut_by_torch_pruning(model: nn.Module, inputs: torch.Tensor, flops: int, round_to: int) -> nn.Module:
    """The model with the same share of every group kept (magnitudes, its usual importance), nearest to ``flops``.

    Its pruning ratio is found by bisection; FLOPs are multiply-adds counted once, by atofx's counter. Output layers are
    named for it (``benchmarks._coverage.outputs``), as it needs that.
    """
    best: tuple[int, nn.Module] | None = None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        ratio = (low + high) / 2
        smaller = _cut(model, inputs, ratio, round_to)
        count = count_flops(smaller, inputs)
        if best is None or abs(count - flops) < abs(best[0] - flops):
            best = count, smaller
        low, high = (ratio, high) if count > flops else (low, ratio)
    assert best is not None
    return best[1]


def _cut(model: nn.Module, inputs: torch.Tensor, ratio: float, round_to: int) -> nn.Module:
    import torch_pruning as tp

    smaller: Any = copy.deepcopy(model)
    pruner = tp.pruner.MetaPruner(
        smaller,
        inputs,
        tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=output_layers(smaller, (inputs,)),
        round_to=round_to if round_to > 1 else None,
    )
    pruner.step()
    result: nn.Module = smaller
    return result
