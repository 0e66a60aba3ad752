"""FLOPs layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from atofx.passes.base import attribute


@dataclass(frozen=True)
class LayerCost:
    """FLOPs (multiply-adds counted once) of one graph node."""

    node: str
    name: str
    op: str
    flops: int


def layer_costs(module: fx.GraphModule, flops: Mapping[str, int]) -> tuple[LayerCost, ...]:
    """The nodes that have any, in the order of the graph.

    Args:
        module: the traced module.
        flops: by node name, multiply-adds counted once.
    """
    return tuple(
        LayerCost(n.name, str(n.target) if n.op == "call_module" else n.name, _op(module, n), flops[n.name])
        for n in module.graph.nodes
        if n.name in flops
    )


def _op(module: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(attribute(module, str(node.target))).__name__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
