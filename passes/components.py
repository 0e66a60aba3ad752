"""Connected components of a graph, as many edges at a time as there are."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def connected_components(edges: Array, size: int) -> tuple[Array, int]:
    """The component of every node, and how many there are.

    Every tree of nodes joins the first of the trees that it has an edge to, until no edge leads from one tree to
    another. SciPy's function of the same name takes half a millisecond however small the graph, which is much beside
    the rest of the analysis of a small model.

    Args:
        edges: (2, E) pairs of nodes.
        size: how many nodes there are.

    Returns:
        int64 (size,), components numbered in the order of their first nodes; and their number.
    """
    root = np.arange(size)
    left, right = edges
    while left.size:
        first, second = root[left], root[right]
        apart = first != second
        left, right = first[apart], second[apart]
        np.minimum.at(root, np.maximum(left, right), np.minimum(left, right))
        root = _followed(root)
    is_root = root == np.arange(size)
    return (is_root.cumsum() - 1)[root], int(is_root.sum())


def _followed(parent: Array) -> Array:
    """The root of every node, from a node on the way to it."""
    further = parent[parent]
    while not np.array_equal(further, parent):
        parent, further = further, further[further]
    return parent
