"""What the model's Python code decided by sizes: which numbers those are, and the checks of them in a graph."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import fx

from atofx.ir.values import holds
from atofx.nn.sizes import expect_decision
from atofx.ops.arguments import argument, target_name

_READ_SIZES = frozenset({"size", "numel", "nelement", "len", "__len__", "stride", "sym_size", "shape"})
_SQUEEZES = (("call_method", "squeeze"), ("call_function", torch.squeeze))


def depends_on_sizes(node: fx.Node) -> bool:
    """Whether a number is computed from sizes of tensors that depend on the input, in any number of steps."""
    todo, seen = [node], {node}
    while todo:
        current = todo.pop()
        for source in current.all_input_nodes:
            if holds(source.meta.get("val"), torch.Tensor):
                if source.op != "get_attr" and _reads_size(current, source):
                    return True
            elif source not in seen:
                seen.add(source)
                todo.append(source)
    return False


def _reads_size(node: fx.Node, source: fx.Node) -> bool:
    """Not the type or the device, which a graph does not fix."""
    name = argument(node, 1, "name") if node.target is getattr else target_name(node)
    return name in _READ_SIZES or (name == "dim" and is_squeezed(source))


def is_squeezed(tensor: fx.Node) -> bool:
    """Whether the number of dimensions hangs on sizes: a squeeze removes those that are 1."""
    if not any(tensor.graph.find_nodes(op=op, target=target) for op, target in _SQUEEZES):
        return False
    todo, seen = [tensor], {tensor}
    while todo:
        node = todo.pop()
        if (node.op, node.target) in _SQUEEZES:
            return True
        new = [n for n in node.all_input_nodes if n not in seen and holds(n.meta.get("val"), torch.Tensor)]
        seen.update(new)
        todo += new
    return False


class Readers:
    """Who reads a node's value, apart from checks of decisions, which change nothing.

    Args:
        graph: every node with its value at the example.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self._checks: dict[fx.Node, None] = {}  # and the numbers that nothing else reads; readers first
        for node in reversed(graph.nodes):
            is_number = node.op.startswith("call") and not holds(node.meta.get("val"), torch.Tensor)
            unread = bool(node.users) and all(user in self._checks for user in node.users)
            if node.target is expect_decision or (is_number and unread):
                self._checks[node] = None

    def __call__(self, node: fx.Node) -> list[fx.Node]:
        """The readers that compute something."""
        return [user for user in node.users if user not in self._checks]

    def checks_of(self, region: Iterable[fx.Node]) -> list[fx.Node]:
        """The checks of what is decided by sizes of these nodes, each before what it reads."""
        behind = set(region)
        for node in reversed(self._checks):
            if not behind.isdisjoint(node.all_input_nodes):
                behind.add(node)
        return [node for node in self._checks if node in behind]
