"""Read a graph node's target and arguments."""

from __future__ import annotations

from typing import Any

from torch import fx


def target_name(node: fx.Node) -> str:
    """The name of the function or method a node calls."""
    return str(getattr(node.target, "__name__", node.target))


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """The argument at ``position``, or the keyword argument of that name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def argument_node(node: fx.Node, position: int, *names: str) -> fx.Node | None:
    """The node that is passed at ``position`` or under one of these names; None if it is no node."""
    if len(node.args) > position:
        found = node.args[position]
    else:
        found = next((node.kwargs[name] for name in names if name in node.kwargs), None)
    return found if isinstance(found, fx.Node) else None


def source_node(node: fx.Node, name: str = "input") -> fx.Node:
    """The node that is passed first."""
    source = argument_node(node, 0, name)
    assert source is not None, f"the first argument of {node.format_node()} is no node"
    return source
