"""The check of sizes in graphs that hold for some only."""

from __future__ import annotations

from typing import Any

from torch import fx

from atofx.nn.sizes import expect_sizes
from atofx.ops.arguments import source_node
from atofx.ops.pointwise import same
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def resize_expected(resizer: Resizer, node: fx.Node) -> Any:
    """What is cut further is expected to be shorter."""
    source = source_node(node, "x")
    sizes = [
        None if size is None else now
        for size, now in zip(resizer.original(node.args[1]), resizer.shape(source), strict=True)
    ]
    return resizer.call(node, (resizer.new(source), tuple(sizes)))


REGISTRY.add(OpRecord("expected sizes", same, resize_expected), functions=[expect_sizes])
