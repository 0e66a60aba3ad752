"""Who writes into the memory of which tensors of a graph."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx, nn

from atofx.ir.analysis import Analysis
from atofx.ops.constants import memory_of
from atofx.ops.inplace import mutated_argument


def written_by(analysis: Analysis, node: fx.Node) -> fx.Node | None:
    """The node whose tensor a node changes in place, None if it changes none."""
    module = analysis.blueprint.attributes.get(str(node.target)) if node.op == "call_module" else None
    return mutated_argument(node, module if isinstance(module, nn.Module) else None)


def is_written_after(analysis: Analysis, place: fx.Node, memories: Collection[int | None]) -> bool:
    """Whether a node behind ``place`` writes into one of these memories."""
    node = place.next
    while node.op != "root":
        written = written_by(analysis, node)
        if written is not None and memory_of(written) in memories:
            return True
        node = node.next
    return False
