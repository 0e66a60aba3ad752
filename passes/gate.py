"""Insert gate nodes before every operation that mixes the channels of a prunable group, or behind norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from atofx.gates import AS_THEY_ARE, ChannelGate, GateBank, Pattern, SizeCheck
from atofx.ir.analysis import Analysis
from atofx.ir.graph_module import GraphModule
from atofx.ir.lineage import GatePoint
from atofx.ir.values import period, run_length
from atofx.passes.base import attribute
from atofx.passes.gate_places import Places, place
from atofx.passes.input_sizes import sized_groups, sizes_of_masked


class Gated(nn.Module):
    """A dense module with gates; shares its parameters with the module it was made from."""

    gates: GateBank

    def set_mask(self, mask: Mapping[str, torch.Tensor] | None) -> None:
        """Set the gates: group name -> bool or float vector (gradients reach it). Missing ones open, None opens all.

        Raises:
            MaskError: an unknown group, or a vector of the wrong length.
        """
        self.gates.set(mask)


class GatedModule(Gated, GraphModule):
    """A graph with gates."""


def insert_gates(analysis: Analysis, places: Places = "consumers") -> GatedModule:
    """The traced module with gates for the channels of prunable groups; modules and tensors are shared.

    Args:
        analysis: the analysed model.
        places: where gates stand. Masks of zeros and ones give the same either way.
    """
    source = analysis.module
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    bank = GateBank({g.name: g.size for g in analysis.groups if g.prunable})
    placed = place(analysis, places)
    gates: dict[str, nn.Module] = {}
    groups = sized_groups(analysis)
    fixed = sizes_of_masked(analysis)
    for node in analysis.module.graph.nodes:
        replaced: dict[fx.Node, fx.Node] = {}
        for point in placed.before.get(node, ()):
            before = replaced.get(point.value, env[point.value])
            replaced[point.value] = emit(graph, gates, make_gate(analysis, bank, point), before)
        new = copied(graph, node, env, replaced)
        if node in fixed:
            name = f"sizes_{len(gates)}"
            gates[name] = SizeCheck(bank, groups, fixed[node])
            new = graph.call_module(name, (new,))
        for point in placed.behind.get(node, ()):
            new = emit(graph, gates, make_gate(analysis, bank, point), new)
        env[node] = new
    module = GatedModule(attributes_of(graph, source, gates), graph, type(source).__name__)
    module.gates = bank
    module.training = source.training
    return module


def copied(
    graph: fx.Graph, node: fx.Node, env: Mapping[fx.Node, fx.Node], replaced: Mapping[fx.Node, fx.Node]
) -> fx.Node:
    """A node of the source at the end of a graph; it reads what is in the place of its operands.

    Args:
        graph: the new one.
        node: of the source.
        env: by node of the source: the new one with its value.
        replaced: the same for values that only this node reads otherwise, behind a gate of its own.
    """

    def present(operand: fx.Node) -> fx.Node:
        return replaced.get(operand, env[operand])

    return graph.node_copy(node, present)


def emit(graph: fx.Graph, gates: dict[str, nn.Module], gate: nn.Module | None, value: fx.Node) -> fx.Node:
    """The gated value; the value itself without a gate."""
    if gate is None:
        return value
    name = f"gate_{len(gates)}"
    gates[name] = gate
    return graph.call_module(name, (value,))


def attributes_of(graph: fx.Graph, source: fx.GraphModule, gates: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Everything the graph names: the source's own modules and tensors, and the gates."""
    attributes: dict[str, Any] = dict(gates)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr") and node.target not in attributes:
            attributes[node.target] = attribute(source, node.target)
    return attributes


def make_gate(analysis: Analysis, bank: GateBank, point: GatePoint) -> ChannelGate | None:
    """The gate of a place; None where no channel of a prunable group lies."""
    ids = point.layer.ids
    dims = point.layer.dims
    assert len(dims) == 1, dims
    flat = ids.reshape(-1)
    known = flat >= 0
    group = torch.where(known, analysis.group_of[flat.clamp(min=0)], -1)
    unit = analysis.unit_of[flat.clamp(min=0)]
    units = units_along(analysis, flat)
    if not units:
        return None
    rest = point.layer.rest.reshape(-1)
    rest = torch.where(rest.isfinite() & known, rest, 0.0)
    owner = torch.where(group >= 0, group * (int(unit.max()) + 1) + unit, -1)
    pattern = AS_THEY_ARE if point.fixed else _pattern(flat, owner, rest, is_first=dims[0] == 0)
    return ChannelGate(bank, dims[0] - ids.dim(), units, rest, pattern)


def _pattern(ids: torch.Tensor, owner: torch.Tensor, rest: torch.Tensor, *, is_first: bool) -> Pattern:
    """How channels are placed along a dimension.

    Args:
        ids: by position; they come again along the first dimension where samples are flattened together with them.
        owner: by position, a number for each unit: coordinates with ids of their own may still be one.
        rest: by position: the constant there.
        is_first: whether it is the first dimension.
    """
    run = run_length(ids)
    run = run_length(owner) if run == 1 else run
    if run is not None and bool((rest.reshape(-1, run) == rest.reshape(-1, run)[:, :1]).all()):
        return Pattern(run=run)
    length = period(ids) if is_first else ids.numel()
    if length < ids.numel() and bool((rest.reshape(-1, length) == rest[:length]).all()):
        return Pattern(period=length)
    return AS_THEY_ARE


def units_along(analysis: Analysis, ids: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Prunable group -> positions of its channels along a dimension, and the unit at each of them.

    Args:
        analysis: the analysed model.
        ids: int64, one per position.
    """
    group = torch.where(ids >= 0, analysis.group_of[ids.clamp(min=0)], -1)
    unit = analysis.unit_of[ids.clamp(min=0)]
    units = {}
    for index in torch.unique(group).tolist():
        if index >= 0 and analysis.groups[index].prunable:
            positions = (group == index).nonzero().flatten()
            units[analysis.groups[index].name] = (positions, unit[positions])
    return units
