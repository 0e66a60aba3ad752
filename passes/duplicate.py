"""A traced and analysed model -> the same on copies of its modules and tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import fx

from atofx.ir.analysis import Analysis
from atofx.ir.blueprint import Blueprint
from atofx.ir.copies import deepcopy
from atofx.ir.lineage import Lineage
from atofx.ops.constants import CONSTANT, TENSOR
from atofx.passes.merge import TracedRegions
from atofx.passes.trace import Traced


def duplicate(traced: Traced, analysis: Analysis, memo: dict[int, Any]) -> tuple[Traced, Analysis]:
    """Copies that share what never changes with the originals, and no module, parameter or buffer.

    Args:
        traced: the traced model.
        analysis: what was found out about it.
        memo: by identity, what has been copied already.
    """
    if isinstance(traced, TracedRegions):  # its modules are those of the graph
        traced = replace(traced, model=deepcopy(traced.model, memo), plan=deepcopy(traced.plan, memo))
    attributes = deepcopy(traced.blueprint.attributes, memo)
    tensors = deepcopy(traced.tensors, memo)
    nodes = _nodes(traced.graph, memo)
    graph = next(iter(nodes.values())).graph
    source = traced.blueprint
    blueprint = Blueprint(graph, attributes, source.name, source.training, source.transient)
    copied = replace(traced, blueprint=blueprint, tensors=tensors, inputs=deepcopy(traced.inputs, memo))
    return copied, replace(analysis, blueprint=blueprint, lineage=_moved(analysis.lineage, nodes))


def _nodes(source: fx.Graph, memo: dict[int, Any]) -> dict[fx.Node, fx.Node]:
    """By node of a graph: the same in a new one. What is known of a node stays; tensors it names are copied."""
    graph = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    for node in source.nodes:
        new = nodes[node] = graph.node_copy(node, nodes.__getitem__)
        new.meta.update((key, deepcopy(node.meta[key], memo)) for key in (TENSOR, CONSTANT) if key in node.meta)
    return nodes


def _moved(lineage: Lineage, nodes: dict[fx.Node, fx.Node]) -> Lineage:
    """The same facts about other nodes."""
    return replace(
        lineage,
        values={nodes[node]: value for node, value in lineage.values.items()},
        gate_points=tuple(replace(p, user=nodes[p.user], value=nodes[p.value]) for p in lineage.gate_points),
        folds=tuple(replace(fold, node=nodes[fold.node]) for fold in lineage.folds),
        costs=tuple(replace(cost, node=nodes[cost.node]) for cost in lineage.costs),
    )
