"""Components found many edges at a time are SciPy's."""

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as of_scipy

from atofx.passes.components import connected_components

SHAPES = {
    "nothing": (np.empty((2, 0), dtype=np.int64), 0),
    "no edges": (np.empty((2, 0), dtype=np.int64), 5),
    "a loop": (np.array([[2], [2]]), 4),
    "a chain": (np.array([range(999), range(1, 1000)]), 1000),
    "a chain backwards": (np.array([range(1, 1000), range(999)]), 1000),
    "small beside large": (
        np.array([[*range(500), *range(1, 500)], [*range(999, 499, -1), *range(999, 500, -1)]]),
        1000,
    ),
    "a star around the last": (np.array([[999] * 999, range(999)]), 1000),
    "edges given twice": (np.array([[3, 3, 1, 1], [1, 1, 3, 3]]), 5),
}


def ours(edges: np.ndarray, size: int) -> tuple[list[int], int]:
    component, count = connected_components(edges, size)
    return component.tolist(), count


def expected(edges: np.ndarray, size: int) -> tuple[list[int], int]:
    """SciPy's components, numbered by their first nodes."""
    matrix = coo_matrix((np.ones(edges.shape[1]), tuple(edges)), shape=(size, size))
    count, labels = of_scipy(matrix, directed=False) if size else (0, np.empty(0, dtype=np.int64))
    first = np.unique(labels, return_index=True)[1]
    return np.argsort(np.argsort(first))[labels].tolist(), count


@pytest.mark.parametrize("name", SHAPES)
def test_components_of_shapes(name):
    assert ours(*SHAPES[name]) == expected(*SHAPES[name])


@pytest.mark.parametrize("seed", range(50))
def test_components_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 400))
    edges = rng.integers(0, size, (2, int(rng.integers(0, 2 * size))))
    before = edges.copy()
    assert ours(edges, size) == expected(edges, size)
    assert (edges == before).all()
