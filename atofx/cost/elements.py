"""How much memory the units of each group take up in the results of a forward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from atofx.ir.analysis import Analysis
from atofx.ir.values import TensorValue
from atofx.ops.constants import memory_of


def elements_per_unit(analysis: Analysis, times: Callable[[fx.Node], int]) -> dict[str, float]:
    """Elements that a unit of each prunable group holds in all results together, at the example input.

    Counted are the single tensors that operations write to new memory: views of other tensors and what is computed in
    place are left aside. Operators' time is bound by these where they do little arithmetic on each element.

    Args:
        analysis: lineage and groups.
        times: how often a node runs in one forward pass.
    """
    held = torch.zeros(len(analysis.groups), dtype=torch.float64)
    for node in analysis.blueprint.graph.nodes:
        value = analysis.lineage.values.get(node)
        if not isinstance(value, TensorValue) or not node.op.startswith("call") or not _is_new(node):
            continue
        for layer in value.layers:
            ids = layer.ids.reshape(-1)
            owner = analysis.group_of[ids[ids >= 0]]
            counts = torch.bincount(owner[owner >= 0], minlength=len(held))
            held += counts.double() * (value.meta.numel() * times(node) / ids.numel())
    return {g.name: float(held[i]) / g.size for i, g in enumerate(analysis.groups) if g.prunable}


def _is_new(node: fx.Node) -> bool:
    return memory_of(node) not in {memory_of(source) for source in node.all_input_nodes}
