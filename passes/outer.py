"""A transformed graph of all regions -> the user's model with the transformed regions in it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from atofx.cost import count_flops
from atofx.errors import TraceError
from atofx.ir.copies import deepcopy
from atofx.ir.graph_module import StoredGraph, forward_of
from atofx.passes.base import attribute
from atofx.passes.gate import Gated, GatedModule
from atofx.passes.merge import CALL, TracedRegions, is_layer, original_name, region_inputs
from atofx.passes.mixture import Mixed, MixedModule
from atofx.passes.plan import form
from atofx.passes.trace import Traced


def rebuild(traced: Traced, module: fx.GraphModule) -> nn.Module:
    """What users get of a transformed graph: the graph itself, or their model with the transformed regions in it.

    Args:
        traced: the traced model.
        module: made from ``traced.module`` by a pass. The result shares its tensors and modules.
    """
    if not isinstance(traced, TracedRegions):
        return module
    outer: nn.Module = deepcopy(traced.model, _replacements(traced, module))
    indices = {call.region: i for i, call in reversed(list(enumerate(traced.plan.calls)))}
    for region, index in indices.items():
        if not is_layer(traced.model.get_submodule(region)):
            _replace_forward(outer.get_submodule(region), traced, module, index)
    if isinstance(module, GatedModule | MixedModule):
        base = Mixed if isinstance(module, MixedModule) else Gated
        outer.__class__ = _Made(_base(outer), (base,)).kind
        outer.gates = module.gates
    if isinstance(module, MixedModule):
        outer.choices = module.choices
    return outer


def count(traced: Traced, module: fx.GraphModule) -> int:
    """Multiply-adds (counted once) of a transformed graph on the example, every call as often as it happens."""
    if not isinstance(traced, TracedRegions):
        return count_flops(module, traced.arguments())
    total = 0
    for index, call in enumerate(traced.plan.calls):
        part = fx.GraphModule(module, part_of(module, index))
        total += call.times * count_flops(part, tuple(region_inputs(traced.model, call).values()))
    return total


def _replacements(traced: TracedRegions, module: fx.GraphModule) -> dict[int, Any]:
    """For every tensor and layer of the model its counterpart in the transformed graph, by identity."""
    found: dict[int, Any] = {}
    for name, tensor in traced.tensors.items():
        counterpart = _find(module, name)
        if counterpart is not None:
            found.setdefault(id(tensor), counterpart)
    for node in traced.module.graph.nodes:
        if node.op == "call_module":
            counterpart = _find(module, str(node.target))
            if counterpart is not None:
                found.setdefault(id(traced.module.get_submodule(str(node.target))), counterpart)
    return found


def _find(root: nn.Module, name: str) -> Any:
    try:
        return attribute(root, name)
    except AttributeError:
        return None


def part_of(module: fx.GraphModule, index: int) -> fx.Graph:
    """The nodes of one call as a graph of its own. Calls share no nodes, and a pass keeps them apart."""
    output = next(n for n in module.graph.nodes if n.op == "output")
    mine: set[fx.Node] = set()
    seeds = [n for n in module.graph.nodes if n.meta.get(CALL) == index]
    while seeds:
        node = seeds.pop()
        if node not in mine and node is not output:
            mine.add(node)
            seeds.extend([*node.users, *node.all_input_nodes])
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node in mine:
            env[node] = graph.node_copy(node, lambda n: env[n])
    graph.output(fx.node.map_arg(output.args[0][index], lambda n: env[n]))
    return graph


def _replace_forward(region: nn.Module, traced: TracedRegions, module: fx.GraphModule, index: int) -> None:
    """Give a region the graph of one call as its ``forward``; everything else of its class stays."""
    call = traced.plan.calls[index]
    graph = part_of(module, index)
    for node in graph.nodes:
        if node.op == "placeholder":
            node.target = original_name(index, str(node.target))
        elif node.op in ("get_attr", "call_module") and node.target != "training":
            node.target = _own_name(region, traced, call.region, str(node.target), module)
    if isinstance(region, fx.GraphModule):  # a model that was pruned before, in a larger one
        region.graph = graph
    else:
        region.__class__ = _Made(_base(region), (), StoredGraph.of(graph)).kind
    calls = [c for c in traced.plan.calls if c.region == call.region]
    _guard(region, call.region, [region_inputs(traced.model, c) for c in calls])


def _own_name(region: nn.Module, traced: TracedRegions, path: str, name: str, module: fx.GraphModule) -> str:
    """A name of the graph as the region knows it; gates, indices and constants are new there and are added."""
    own = name.removeprefix(f"{path}.")
    if own != name and _find(traced.model, name) is not None:
        return own
    value = attribute(module, name)
    own = own.replace(".", "_")
    while getattr(region, own, value) is not value:
        own += "_"
    if isinstance(value, torch.Tensor):
        region.register_buffer(own, value, persistent=False)
    elif isinstance(value, nn.Module) and _is_held(value, traced, name, module):
        vars(region)[own] = value  # not among its children: code outside may count them, or take the last
    else:
        setattr(region, own, value)
    return own


def _is_held(value: nn.Module, traced: TracedRegions, name: str, module: fx.GraphModule) -> bool:
    """Whether a module that a region calls is registered elsewhere: another's layer, or a gate, which goes to the bank.

    One with parameters, such as the norms of a mixture, belongs to the region: its mode is that of the region.
    """
    if _find(traced.model, name) is not None:
        return True
    if not isinstance(module, Gated) or next(value.parameters(), None) is not None:
        return False
    module.gates.hold(value)
    return True


@dataclass(frozen=True, eq=False)
class _Made:
    """How the class of one instance is made, also when that is read from a pickle.

    Calling the class, as a slice of an ``nn.Sequential`` does, makes an instance of the class that the user's model has
    there.

    Attributes:
        base: the user's class.
        before: classes in front of it.
        graph: of its ``forward``, None for the user's.
    """

    base: type
    before: tuple[type, ...]
    graph: StoredGraph | None = None

    @cached_property
    def kind(self) -> type:
        """The class, which copies of the instance have too."""
        names = {"__module__": self.base.__module__, "__qualname__": self.base.__qualname__}
        members = {**names, "__doc__": self.base.__doc__, "_atofx_made": self, "__reduce_ex__": _reduced}
        if self.graph is not None:
            members["forward"] = forward_of(self.graph)
        meta: type[type] = type(type(self.base).__name__, (type(self.base),), {"__call__": self._new})
        return meta(self.base.__name__, (*self.before, self.base), members)

    def _new(self, *args: Any, **kwargs: Any) -> Any:
        return self.base(*args, **kwargs)

    def instance(self) -> Any:
        """An instance with nothing in it."""
        return object.__new__(self.kind)

    def __getstate__(self) -> dict[str, Any]:
        return {"base": self.base, "before": self.before, "graph": self.graph}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Made:
        return self


def _base(module: nn.Module) -> type:
    """The user's class of a module; another one made for the same instance earlier is left out."""
    made = getattr(type(module), "_atofx_made", None)
    return type(module) if made is None else made.base


def _reduced(module: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """The ``__reduce_ex__`` of a made class."""
    state = module.__getstate__() if hasattr(module, "__getstate__") else vars(module)  # objects have it from 3.11 on
    return _Made.instance, (vars(type(module))["_atofx_made"],), state


class _Guard:
    """A forward pre-hook: nesting and literals among a region's inputs must be those of a call it was traced with."""

    def __init__(self, path: str, calls: list[dict[str, Any]]) -> None:
        self.path = path
        self.calls = calls

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(isinstance(leaf, fx.Proxy) for leaf in pytree.tree_leaves((args, kwargs))):
            return
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        actual = {name: form(bound.arguments.get(name), sizes=False) for name in self.calls[0]}
        if actual in self.calls:
            return
        unknown = (n for n, found in actual.items() if all(found != forms[n] for forms in self.calls))
        name = next(unknown, next(iter(actual)))
        known = " or ".join(dict.fromkeys(_text(forms[name]) for forms in self.calls))
        raise TraceError(
            f"the region {self.path!r} was traced with {name} = {known} and is now called with {_text(actual[name])}; "
            "trace the model with example inputs that lead to such a call"
        )


def _guard(region: nn.Module, path: str, calls: list[dict[str, Any]]) -> None:
    """Watch over the inputs of a region, if they are more than plain tensors."""
    forms = [{name: form(value, sizes=False) for name, value in named.items()} for named in calls]
    if any(kind != "tensor" for one in forms for kind, *_ in one.values()):
        region.register_forward_pre_hook(_Guard(path, forms), with_kwargs=True)


def _text(kind: Any) -> str:
    """A form in words."""
    head, *rest = kind
    if head == "tensor":
        return f"a tensor of {rest[0]} dimensions"
    if head == "sequence":
        return f"[{', '.join(_text(r) for r in rest)}]"
    if head == "mapping":
        return f"{{{', '.join(f'{key}: {_text(value)}' for key, value in rest)}}}"
    return repr(rest[-1])
