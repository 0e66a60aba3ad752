"""Which nodes of a graph lie in one memory: for certain, or if nothing between them copies."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import fx, nn

from atofx.ops.copies import copies_at_times


class Sharing:
    """The nodes that were added, by the memory they lie in at the example."""

    def __init__(self) -> None:
        self._families: dict[int, list[fx.Node]] = {}  # one list for memories that may be one
        self._copying: dict[fx.Node, frozenset[fx.Node]] = {}  # what copies at times between a node and its memory
        self._memories: dict[fx.Node, Collection[int]] = {}

    def add(self, node: fx.Node, memories: Collection[int], module: nn.Module | None) -> None:
        """Note which memories a node's tensors lie in; its inputs were added before. ``module``: what it calls."""
        self._memories[node] = memories
        if copies_at_times(node, module) and node.all_input_nodes:
            source = node.all_input_nodes[0]
            self._copying[node] = self._copying.get(source, frozenset()) | {node}
            for known in self._memories[source]:
                for memory in memories:
                    self._families[memory] = self._families[known]
        elif self._copying:
            sources = [s for s in node.all_input_nodes if s in self._copying]
            passed = [self._copying[s] for s in sources if not set(self._memories[s]).isdisjoint(memories)]
            if passed:
                self._copying[node] = frozenset().union(*passed)
        for memory in memories:
            self._families.setdefault(memory, []).append(node)

    def family(self, memory: int) -> Sequence[fx.Node]:
        """The nodes that lie in this memory, for certain or perhaps, in the order of the graph."""
        return self._families.get(memory, ())

    def copying(self, one: fx.Node, other: fx.Node) -> list[fx.Node]:
        """What copies at times between two of a family; nothing if they share memory for certain."""
        return sorted(self._copying.get(one, frozenset()) ^ self._copying.get(other, frozenset()))
