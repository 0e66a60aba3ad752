"""Analysis -> dependency graph: every call of the traced graph with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from atofx.ir.analysis import Analysis
from atofx.ir.groups import Group, Role
from atofx.ops.constants import TENSOR
from atofx.ops.context import tensors_in
from atofx.passes.advice import advice
from atofx.passes.lineage import describe
from atofx.passes.tracer import SOURCE


@dataclass(frozen=True)
class Axis:
    """An axis of a parameter or buffer, as far as one group goes.

    Attributes:
        dim: the dimension.
        role: ``"producer"`` if its coordinates are set to zero with a unit, ``"consumer"`` if they are only cut.
        group: name of the group.
        held: how many of its coordinates belong to the group.
    """

    dim: int
    role: Role
    group: str
    held: int


@dataclass(frozen=True)
class NodeTensor:
    """A parameter or buffer that a node reads.

    Attributes:
        name: in the user's model; a tied one goes by one name everywhere.
        shape: its shape.
        parameter: whether it counts as a parameter.
        axes: the dimensions that belong to groups; a dimension that several share occurs once for each.
    """

    name: str
    shape: tuple[int, ...]
    parameter: bool
    axes: tuple[Axis, ...]


def dependency_graph(analysis: Analysis, node_flops: Mapping[str, int]) -> nx.DiGraph:
    """A networkx node per graph node, an edge per value that is read.

    Attributes of a node:

    * ``op``, ``kind`` (``"call_module"``, ``"call_function"``, ``"get_attr"``, …), ``target``;
    * ``name``: the qualified name of a module, parameter or buffer, else the node's;
    * ``module``: the qualified name of the module it stands in;
    * ``shape`` (None if the result is no tensor) and ``shapes`` (of all tensors in the result);
    * ``groups``: names of the groups that the result's channels belong to;
    * ``tensors``: the parameters and buffers it reads, as :class:`NodeTensor`;
    * ``flops`` (dense multiply-adds counted once) and ``params`` (number of parameters it reads);
    * ``pins``: why channels are kept whole here, or reach this place whole, and what helps;
    * ``source``: file and line of the model's code, or None.

    An edge has ``shapes``.
    """
    graph = nx.DiGraph()
    modules = dict(analysis.module.named_modules(remove_duplicate=False))
    axes = _axes(analysis.groups)
    pins: dict[str, list[str]] = {}
    for pin in analysis.lineage.pins:
        if bool((analysis.group_of[pin.ids] >= 0).any()):  # else it is about no channels, such as those of an image
            pins.setdefault(pin.node, []).append(pin.reason)
    for node in analysis.module.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        value = node.meta.get("val")
        groups = _groups(analysis, node)
        tensors = _tensors(analysis, node, module, axes)
        kept = [group.reason for group in groups if group.reason is not None]
        graph.add_node(
            node.name,
            op=describe(node, module) if node.op.startswith("call") else node.op,
            kind=node.op,
            target=str(node.target),
            name=str(node.target) if node.op in ("call_module", "get_attr") else node.name,
            module=_scope(node),
            shape=tuple(value.shape) if isinstance(value, torch.Tensor) else None,
            shapes=_shapes(value),
            groups=tuple(group.name for group in groups),
            tensors=tensors,
            flops=node_flops.get(node.name, 0),
            params=sum(torch.Size(t.shape).numel() for t in tensors if t.parameter),
            pins=tuple(reason + advice(reason) for reason in dict.fromkeys([*pins.get(node.name, ()), *kept])),
            source=node.meta.get(SOURCE),
        )
    for node in analysis.module.graph.nodes:
        for source in node.all_input_nodes:
            graph.add_edge(source.name, node.name, shapes=_shapes(source.meta.get("val")))
    return graph


def _axes(groups: tuple[Group, ...]) -> dict[str, list[Axis]]:
    """By canonical name of the tensor, in the order of the dimensions."""
    found: dict[str, list[Axis]] = {}
    for group in groups:
        for member in group.members:
            held = int((member.unit >= 0).sum())
            found.setdefault(member.name, []).append(Axis(member.dim, member.role, group.name, held))
    return {name: sorted(axes, key=lambda axis: axis.dim) for name, axes in found.items()}


def _groups(analysis: Analysis, node: fx.Node) -> list[Group]:
    """The groups of a result's channels, each once."""
    found: dict[int, None] = {}
    for tensor in tensors_in(analysis.lineage.values.get(node)):
        for layer in tensor.layers:
            ids = layer.ids[layer.ids >= 0]
            found.update(dict.fromkeys(torch.unique(analysis.group_of[ids]).tolist()))
    return [analysis.groups[index] for index in found if index >= 0]


def _tensors(
    analysis: Analysis, node: fx.Node, module: nn.Module | None, axes: Mapping[str, list[Axis]]
) -> tuple[NodeTensor, ...]:
    """The parameters and buffers of a call's module, or the one that the node fetches."""
    named: dict[str, torch.Tensor] = {}
    if module is not None:
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            named[f"{node.target}.{name}"] = tensor
    elif isinstance(fetched := node.meta.get(TENSOR), torch.Tensor):
        named[str(node.target)] = fetched
    found = {}
    for name, tensor in named.items():
        canonical = analysis.lineage.tensor_names.get(name, name)
        parameter = isinstance(tensor, nn.Parameter)
        found[canonical] = NodeTensor(canonical, tuple(tensor.shape), parameter, tuple(axes.get(canonical, ())))
    return tuple(found.values())


def _scope(node: fx.Node) -> str:
    """The module a node stands in: of a called module or a tensor, the one that holds it."""
    if node.op in ("call_module", "get_attr"):
        return str(node.target).rpartition(".")[0]
    stack = node.meta.get("nn_module_stack") or {}
    name, kind = next(reversed(stack.values()), ("", None))
    return "" if name == kind else str(name)  # torch.export enters the same text twice for nodes of its own


def _shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(leaf.shape) for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))
