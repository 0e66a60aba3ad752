"""Program -> everything the page of :func:`atofx.report.page.page` shows, as JSON types."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import atofx
from atofx.cost.model import CostModel, Polynomial
from atofx.passes.advice import advice
from atofx.passes.dependency import NodeTensor
from atofx.program import Program
from atofx.report.palette import GROUPS, WHOLE


def page_data(program: Program) -> dict[str, Any]:
    """Nodes, edges, tensors, groups and the cost model. FLOPs are fused multiply-adds counted once.

    Nodes refer to tensors and groups by position. ``cost`` is the program's cost model: an extent is ``base`` plus, for
    every prunable group, the number of kept units times what one unit holds; FLOPs and parameters are sums of constants
    times extents. Prunable groups come first, in the order of ``cost["held"]``.
    """
    graph = program.graph
    groups = {group.name: index for index, group in enumerate(program.groups)}
    tensors: dict[str, int] = {}
    described: list[dict[str, Any]] = []
    nodes = []
    for key, node in graph.nodes(data=True):
        for tensor in node["tensors"]:
            if tensor.name not in tensors:
                tensors[tensor.name] = len(described)
                described.append(_tensor(tensor, groups))
        entry = {
            "id": key,
            "name": node["name"],
            "op": _operation(node),
            "module": node["module"],
            "shapes": [list(shape) for shape in node["shapes"]],
            "groups": [groups[name] for name in node["groups"]],
            "tensors": [tensors[tensor.name] for tensor in node["tensors"]],
            "flops": node["flops"],
            "params": node["params"],
            "pins": list(node["pins"]),
            "source": _source(node["source"]),
        }
        nodes.append({name: value for name, value in entry.items() if value not in ([], None, 0, "")})
    positions = {key: index for index, key in enumerate(graph)}
    return {
        "format": "atofx-graph/1",
        "version": atofx.__version__,
        "model": type(program.module).__name__,
        "capture": str(program.traced.capture),
        "nodes": nodes,
        "edges": [[positions[source], positions[target]] for source, target in graph.edges],
        "tensors": described,
        "groups": [
            {
                "name": group.name,
                "size": group.size,
                "channels": group.channels,
                "prunable": group.prunable,
                "reason": group.reason and group.reason + advice(group.reason),
                "members": [
                    {"tensor": member.name, "dim": member.dim, "role": member.role} for member in group.members
                ],
            }
            for group in program.groups
        ],
        "cost": _cost(program.cost_model),
        "palette": {"groups": [list(colour) for colour in GROUPS], "whole": list(WHOLE)},
    }


def _operation(node: Mapping[str, Any]) -> str:
    """The operation in a word or two."""
    if node["kind"] == "placeholder":
        return "input"
    if node["kind"] == "get_attr":
        held = [tensor.parameter for tensor in node["tensors"]]
        return "mode" if not held else "parameter" if held[0] else "buffer"
    return str(node["op"]).partition(" (")[0]


def _tensor(tensor: NodeTensor, groups: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "parameter": tensor.parameter,
        "axes": [
            {"dim": axis.dim, "role": axis.role, "group": groups[axis.group], "held": axis.held} for axis in tensor.axes
        ],
    }


def _source(source: tuple[str, int] | None) -> str | None:
    """``"package/file.py:12"``: the file as seen from where Python imports it, which tells nothing of the machine."""
    if source is None:
        return None
    path = Path(source[0])
    roots = [Path(entry).resolve() for entry in sys.path if path.is_relative_to(Path(entry).resolve())]
    shown = path.relative_to(max(roots, key=lambda root: len(root.parts))) if roots else Path(path.name)
    return f"{shown.as_posix()}:{source[1]}"


def _cost(model: CostModel) -> dict[str, Any]:
    held = []
    for row in model.per_unit.round().long():
        extents = row.nonzero().flatten()
        held.append([[int(extent), int(row[extent])] for extent in extents])
    return {
        "unit": "fused multiply-adds, counted once",
        "base": _integers(model.base),
        "held": held,
        "flops": _polynomial(model.flops),
        "params": _polynomial(model.params),
    }


def _polynomial(polynomial: Polynomial) -> list[list[int]]:
    """Rows of a constant and the extents it is multiplied with, without the extent 1; equal products are added up."""
    total: dict[tuple[int, ...], int] = {}
    for constant, factors in zip(_integers(polynomial.constants), polynomial.factors.tolist(), strict=True):
        key = tuple(sorted(factor for factor in factors if factor))
        total[key] = total.get(key, 0) + constant
    return [[constant, *factors] for factors, constant in total.items()]


def _integers(values: torch.Tensor) -> list[int]:
    return [int(value) for value in values]
