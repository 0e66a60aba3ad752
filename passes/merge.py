"""The regions of a plan -> one graph that calls them all, so that every other pass sees a single program."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from atofx.errors import TraceError
from atofx.ir.blueprint import Blueprint
from atofx.ops import REGISTRY
from atofx.ops.evaluate import to_meta
from atofx.passes.base import passing_buffers, tensors_by_name
from atofx.passes.inputs import ExampleInputs, bind_inputs
from atofx.passes.plan import Call, Plan
from atofx.passes.trace import Capture, Traced, trace

#: Node meta: the index of the call a node belongs to.
CALL = "atofx.call"


@dataclass(frozen=True, eq=False)
class TracedRegions(Traced):
    """A model of which only regions could be traced; ``module`` runs every call of every region, one after the other.

    Its results are those of the calls, and last all tensors that no region has to itself. All names are those of the
    model.

    Attributes:
        model: the user's model.
        plan: the regions.
    """

    model: nn.Module
    plan: Plan

    def arguments(self) -> tuple[Any, ...]:
        """Example inputs of :attr:`module` in the order of its placeholders."""
        return tuple(value for call in self.plan.calls for value in region_inputs(self.model, call).values())

    def results(self, output: fx.Node) -> tuple[tuple[Any, str], ...]:
        """What every call hands out, and why that must keep its shape; then the tensors of the outside."""
        parts: Any = output.args[0]
        leaving = [(v, self.plan.leaving(c.region)) for v, c in zip(parts[:-1], self.plan.calls, strict=True)]
        return (*leaving, *zip(parts[-1], self.plan.outside.values(), strict=True))

    def entering(self, node: fx.Node) -> str:
        """Where the input that a node reads comes from."""
        if any(n.op == "placeholder" for n in node.all_input_nodes):
            return self.plan.entering(self.plan.calls[node.meta[CALL]].region)
        return ""

    def times(self, node: fx.Node) -> int:
        """How often a node runs in one forward pass on the example."""
        return self.plan.calls[node.meta[CALL]].times if CALL in node.meta else 1


class _Alone(nn.Module):
    """A layer with a record of its own, called by a graph."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.training = layer.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a single layer: it has a record and is not traced into."""
    return REGISTRY.module(module) is not None


def region_root(model: nn.Module, region: str) -> nn.Module:
    """What is traced for a region."""
    module = model.get_submodule(region)
    return _Alone(module) if is_layer(module) else module


def trace_region(model: nn.Module, region: str, inputs: ExampleInputs) -> Traced:
    """Trace a submodule on its own.

    Raises:
        TraceError: it cannot be traced.
    """
    return trace(region_root(model, region), inputs)


def region_inputs(model: nn.Module, call: Call) -> dict[str, Any]:
    """The inputs of a call by the names of its region's placeholders."""
    return bind_inputs(region_root(model, call.region), call.inputs)


def positional_or_named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExampleInputs | None:
    """Arguments of a call as a tuple or a dict, None if they are neither."""
    if not kwargs:
        return args
    if not args:
        return kwargs
    parameters = inspect.signature(module.forward).parameters.values()
    free = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if len(args) > len(free) or len(free) != len(parameters):
        return None
    return {**{p.name: v for p, v in zip(free, args, strict=False)}, **kwargs}


def merge(model: nn.Module, inputs: ExampleInputs, plan: Plan, parts: Sequence[Traced]) -> TracedRegions:
    """One graph of all regions.

    Args:
        model: the user's model; it is left as it was.
        inputs: its example inputs.
        plan: the regions.
        parts: what :func:`trace_region` made of each call.

    Raises:
        TraceError: the plan is another model's.
    """
    graph = fx.Graph()
    parameters, buffers = tensors_by_name(model)
    tensors: dict[str, torch.Tensor] = {**parameters, **buffers}
    wanted, used = set(plan.outside), {id(t) for part in parts for _, t in part.blueprint.tensors()}
    if not {n for n, t in tensors.items() if id(t) not in used} <= wanted <= set(tensors):
        raise TraceError(f"{type(model).__name__} has other parameters than the model these regions were found in")
    attributes: dict[str, Any] = {"training": model.training}
    constants = set()
    results = []
    for index, (call, part) in enumerate(zip(plan.calls, parts, strict=True)):
        prefix = "" if is_layer(model.get_submodule(call.region)) else f"{call.region}."
        env: dict[fx.Node, fx.Node] = {}
        for node in part.graph.nodes:
            if node.op == "output":
                results.append(fx.node.map_arg(node.args[0], lambda n, env=env: env[n]))  # type: ignore[misc]
                continue
            new = env[node] = graph.node_copy(node, lambda n, env=env: env[n])  # type: ignore[misc]
            new.meta[CALL] = index
            new.meta["nn_module_stack"] = _stack(call.region, model, node)
            if node.op == "placeholder":
                new.target = f"{_mark(index)}{node.target}"
            elif node.op in ("get_attr", "call_module") and node.target != "training":
                new.target = f"{prefix}{node.target}" if prefix else _in_place_of_alone(call.region, str(node.target))
                attributes[new.target] = part.blueprint.attributes[str(node.target)]
                if node.op == "get_attr" and new.target not in tensors:
                    constants.add(new.target)
                    tensors[new.target] = attributes[new.target]
    outside = [_tensor_node(graph, name, tensors[name]) for name in plan.outside]
    attributes.update((name, tensors[name]) for name in plan.outside)
    graph.output((*results, tuple(outside)))
    passing = passing_buffers(model)
    transient = passing & attributes.keys()
    blueprint = Blueprint(graph, attributes, type(model).__name__, model.training, frozenset(constants | transient))
    reachable = dict(blueprint.tensors())
    ordered = dict(sorted(tensors.items(), key=lambda item: item[0] not in reachable))
    capture = Capture("regions", plan.reason)
    return TracedRegions(blueprint, ordered, inputs, (), frozenset(constants), passing, capture, model, plan)


def _stack(region: str, model: nn.Module, node: fx.Node) -> dict[str, Any]:
    """The modules whose code made a node, by the names they have in the model."""
    inside = node.meta.get("nn_module_stack") or {}
    below = {f"{region}.{key}": (f"{region}.{name}", kind) for key, (name, kind) in inside.items() if name}
    return {region: (region, type(model.get_submodule(region))), **below}


def unused_by(model: nn.Module, parts: Sequence[Traced]) -> frozenset[str]:
    """The parameters and buffers of the model that none of these graphs uses."""
    used = {id(t) for part in parts for _, t in part.blueprint.tensors()}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return frozenset(name for name, tensor in tensors if id(tensor) not in used)


def original_name(call: int, placeholder: str) -> str:
    """The name that an input of the graph has in its region's ``forward``."""
    return placeholder.removeprefix(_mark(call))


def _mark(call: int) -> str:
    return f"call{call}_"


def _in_place_of_alone(region: str, target: str) -> str:
    return region + target.removeprefix("layer")


def _tensor_node(graph: fx.Graph, name: str, tensor: torch.Tensor) -> fx.Node:
    node = graph.get_attr(name)
    node.meta["val"] = to_meta(tensor)
    return node
