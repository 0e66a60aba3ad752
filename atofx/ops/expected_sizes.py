"""The checks of sizes, and of numbers computed from them, in graphs that hold for some only."""

from __future__ import annotations

from typing import Any

from torch import fx

from atofx.nn.sizes import expect_decision, expect_sizes
from atofx.ops.arguments import source_node
from atofx.ops.pointwise import same
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer
from atofx.ops.scalars import plain


def resize_expected(resizer: Resizer, node: fx.Node) -> Any:
    """What is cut further is expected to be shorter."""
    source = source_node(node, "x")
    sizes = [
        None if size is None else now
        for size, now in zip(resizer.original(node.args[1]), resizer.shape(source), strict=True)
    ]
    return resizer.call(node, (resizer.new(source), tuple(sizes)))


def resize_decision(resizer: Resizer, node: fx.Node) -> Any:
    """The same check of the number that the dense graph computes; none of one that is the same for all inputs."""
    value, decided, where = node.args
    number = resizer.number(value)
    is_other = resizer.widens and resizer.compact_value(value) != decided  # of a width that is another one here
    return resizer.call(node, (number, decided, where)) if isinstance(number, fx.Node) and not is_other else None


REGISTRY.add(OpRecord("decision", plain, resize_decision), functions=[expect_decision])
REGISTRY.add(OpRecord("expected sizes", same, resize_expected), functions=[expect_sizes])
