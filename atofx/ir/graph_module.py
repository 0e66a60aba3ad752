"""Graph modules that are copied and pickled as the graph they have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from types import FunctionType
from typing import Any

import torch
from torch import fx

from atofx.ir.copies import deepcopy


class GraphModule(fx.GraphModule):
    """A graph module whose copies and pickles have its very graph, attributes, mode and class name.

    torch pickles the generated code and traces it again when it is read: ``len`` of the pieces of a tensor cannot be
    traced so, and ``self.training`` becomes a constant.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """The graph as plain data, and everything else as it is."""
        return _restored, (_kind(self), type(self).__name__, StoredGraph.of(self.graph), _attributes(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphModule:
        result = _empty(_kind(self), type(self).__name__)
        memo[id(self)] = result
        vars(result).update(deepcopy(_attributes(self), memo))
        result.graph = deepcopy(self.graph)
        return result


@dataclass(frozen=True)
class _Place:
    """Stands for a node by its place in the graph."""

    index: int


@dataclass(frozen=True)
class _Named:
    """Stands for a function that is found in a module under a name other than the one pickle would ask for."""

    module: str
    name: str

    @classmethod
    def instead_of(cls, value: Any) -> Any:
        """What stands for a value, itself for most."""
        if isinstance(value, _OPERATIONS):
            return cls("torch", f"ops.{value}")
        if isinstance(value, FunctionType) and value.__qualname__ != value.__name__:
            found = cls(value.__module__, value.__name__)
            return found if getattr(sys.modules.get(found.module), found.name, None) is value else value
        return value

    def value(self) -> Any:
        """The function."""
        return reduce(getattr, self.name.split("."), import_module(self.module))


@dataclass(frozen=True)
class StoredGraph:
    """A graph as plain data.

    Attributes:
        steps: per node: kind, target, arguments, keyword arguments, name, type, whether its function was wrapped.
    """

    steps: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, graph: fx.Graph) -> StoredGraph:
        """What a graph consists of, without what is only noted at its nodes."""
        places = {node: _Place(index) for index, node in enumerate(graph.nodes)}

        def stored(value: Any) -> Any:
            return places[value] if isinstance(value, fx.Node) else _Named.instead_of(value)

        return cls(
            tuple(
                (
                    node.op,
                    stored(node.target),
                    *_mapped((node.args, dict(node.kwargs)), stored),
                    node.name,
                    node.type,
                    bool(node.meta.get("is_wrapped")),
                )
                for node in graph.nodes
            )
        )

    def graph(self) -> fx.Graph:
        """The graph again."""
        graph, nodes = fx.Graph(), list[fx.Node]()

        def restored(value: Any) -> Any:
            if isinstance(value, _Place):
                return nodes[value.index]
            return value.value() if isinstance(value, _Named) else value

        for op, target, args, kwargs, name, type_expr, is_wrapped in self.steps:
            args, kwargs = _mapped((args, kwargs), restored)
            nodes.append(graph.create_node(op, restored(target), args, kwargs, name, type_expr))
            if is_wrapped:
                nodes[-1].meta["is_wrapped"] = True
        return graph


def forward_of(stored: StoredGraph) -> Callable[..., Any]:
    """The code of a graph, as the ``forward`` of any class whose instances have what it names."""
    module = _empty(GraphModule, "GraphModule")
    module.graph = stored.graph()
    forward: Callable[..., Any] = type(module).forward
    return forward


_OPERATIONS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
#: What belongs to the graph, or to the tracer that recorded it.
_OF_GRAPH = frozenset({"_graph", "_tracer_cls", "_tracer_extras"})


def _mapped(value: Any, function: Any) -> Any:
    return fx.node.map_aggregate(value, function)


def _kind(module: GraphModule) -> type[GraphModule]:
    """The class a module was made of; torch makes one more for every instance."""
    return next(kind for kind in type(module).__mro__ if "<locals>" not in kind.__qualname__)


def _attributes(module: GraphModule) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if key not in _OF_GRAPH}


def _empty(kind: type[GraphModule], name: str) -> GraphModule:
    """An instance with nothing in it."""
    module: GraphModule = kind.__new__(kind)
    fx.GraphModule.__init__(module, {}, fx.Graph(), name)
    return module


def _restored(kind: type[GraphModule], name: str, stored: StoredGraph, attributes: dict[str, Any]) -> GraphModule:
    module = _empty(kind, name)
    vars(module).update(attributes)
    module.graph = stored.graph()
    return module
