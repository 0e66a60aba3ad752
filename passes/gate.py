"""Insert gate nodes before every operation that mixes the channels of a prunable group, or behind norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from atofx.gates import AS_THEY_ARE, ChannelGate, GateBank, Pattern, SizeCheck
from atofx.ir.analysis import Analysis
from atofx.ir.graph_module import GraphModule
from atofx.ir.lineage import GatePoint
from atofx.ir.values import Layer, period, run_length
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
    line = line_of(analysis, point.layer)
    if line is None:
        return None
    pattern = AS_THEY_ARE if point.fixed else _pattern(line, is_first=line.dim == -point.layer.ids.dim())
    return ChannelGate(bank, line.dim, units_along(analysis, line.ids), line.rest, pattern)


@dataclass(frozen=True, eq=False)
class Line:
    """The channels of prunable groups along the one dimension in which their units lie.

    Attributes:
        dim: counted from the end (negative).
        ids: int64, by position.
        owner: by position, a number for each unit, -1 for none.
        rest: by position, the constant there once its unit is dropped.
    """

    dim: int
    ids: torch.Tensor
    owner: torch.Tensor
    rest: torch.Tensor


def line_of(analysis: Analysis, layer: Layer) -> Line | None:
    """Where the units of a layer lie, None without any of a prunable group.

    Ids may lie along more dimensions than units do, which are whole slices of every tensor.
    """
    ids = layer.ids
    if not units_along(analysis, ids.reshape(-1)):
        return None
    known = ids >= 0
    group = torch.where(known, analysis.group_of[ids.clamp(min=0)], -1)
    unit = analysis.unit_of[ids.clamp(min=0)]
    rest = torch.where(layer.rest.isfinite() & known, layer.rest, 0.0)
    owner = torch.where(group >= 0, group * (int(unit.max()) + 1) + unit, -1)
    along = layer.dims if len(layer.dims) == 1 else tuple(d for d in layer.dims if _differs(owner, d))
    assert len(along) == 1, along
    assert not any(_differs(rest, d) for d in layer.dims if d not in along), "constants differ within a unit"
    return Line(along[0] - ids.dim(), *(_first_along(values, along[0]) for values in (ids, owner, rest)))


def _differs(values: torch.Tensor, dim: int) -> bool:
    return not bool((values == values.narrow(dim, 0, 1)).all())


def _first_along(values: torch.Tensor, dim: int) -> torch.Tensor:
    """The values along one dimension, at the first place of the others."""
    return values.movedim(dim, 0).reshape(values.shape[dim], -1)[:, 0]


def _pattern(line: Line, *, is_first: bool) -> Pattern:
    """How channels are placed along a dimension.

    Args:
        line: the channels. They come again along the first dimension where samples are flattened together with them.
        is_first: whether it is the first dimension.
    """
    ids, rest = line.ids, line.rest
    run = run_length(ids)
    run = run_length(line.owner) if run == 1 else run  # coordinates with ids of their own may still be one unit
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
