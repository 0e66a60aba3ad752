"""Where gates stand: before the operations that mix channels, or right behind norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx

from atofx.ir.analysis import Analysis
from atofx.ir.lineage import GatePoint
from atofx.ir.values import TensorValue
from atofx.ops import REGISTRY

Places = Literal["consumers", "norms"]
"""``"consumers"``: before every operation that mixes the channels. ``"norms"``: behind the norm, before the activation,
where everything that leads from a norm to such operations treats every channel by itself; elsewhere as before."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Gates by the node they stand at.

    Attributes:
        before: mixing node -> gates on values that it reads.
        behind: norm -> gates on its result.
    """

    before: dict[fx.Node, list[GatePoint]]
    behind: dict[fx.Node, list[GatePoint]]


def place(analysis: Analysis, places: Places) -> Placed:
    """The gates of a program."""
    by_user: dict[fx.Node, list[GatePoint]] = {}
    for point in analysis.lineage.gate_points:
        by_user.setdefault(point.user, []).append(point)
    behind: dict[fx.Node, list[GatePoint]] = {}
    moved: set[int] = set()
    for node in analysis.blueprint.graph.nodes if places == "norms" else ():
        points = _led_to(analysis, node, by_user) if _is_norm(analysis, node) else None
        gates = _on(analysis, node, points) if points else None
        if gates and points:
            behind[node] = gates
            moved.update(map(id, points))
    before = {user: [p for p in points if id(p) not in moved] for user, points in by_user.items()}
    return Placed(before, behind)


def _led_to(analysis: Analysis, node: fx.Node, by_user: dict[fx.Node, list[GatePoint]]) -> list[GatePoint] | None:
    """The gates that all uses of a value lead to through channel by channel operations; None where one does not."""
    found: list[GatePoint] = []
    for user in node.users:
        here = [point for point in by_user.get(user, ()) if point.value is node]
        if here:
            found += here
        elif user.op == "output":
            return None
        elif isinstance(analysis.lineage.values.get(user), TensorValue):
            further = _led_to(analysis, user, by_user) if _keeps_channels(analysis, node, user) else None
            if further is None:
                return None
            found += further
    return found


def _keeps_channels(analysis: Analysis, source: fx.Node, user: fx.Node) -> bool:
    """Whether a node computes every channel from that channel alone, without parameters."""
    values = analysis.lineage.values
    tensors = [node for node in user.all_input_nodes if isinstance(values.get(node), TensorValue)]
    if user.op == "call_module":
        module = analysis.module.get_submodule(str(user.target))
        if next(module.parameters(), None) is not None or _is_norm(analysis, user):
            return False
    return tensors == [source] and _ids(values[user]) == _ids(values[source])


def _is_norm(analysis: Analysis, node: fx.Node) -> bool:
    module = analysis.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    record = REGISTRY.of(node, module)
    return record is not None and record.normalizes and isinstance(analysis.lineage.values[node], TensorValue)


def _on(analysis: Analysis, norm: fx.Node, points: list[GatePoint]) -> list[GatePoint] | None:
    """Gates on a norm's result that stand for these; None where its channels are not theirs."""
    wanted = {number for point in points for number in _known(point.layer.ids)}
    value = analysis.lineage.values[norm]
    layers = [layer for layer in value.layers if len(layer.dims) == 1 and wanted & _known(layer.ids)]
    if {number for layer in layers for number in _known(layer.ids)} != wanted:
        return None
    return [GatePoint(norm, norm, layer) for layer in layers]


def _ids(value: TensorValue) -> set[int]:
    return {number for layer in value.layers for number in _known(layer.ids)}


def _known(ids: torch.Tensor) -> set[int]:
    return {number for number in ids.reshape(-1).unique().tolist() if number >= 0}
