"""Ids cut into pieces give the components that ids one by one give."""

import gc

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import nn

import atofx
from atofx.errors import TraceError
from atofx.ir.values import ids_of_runs, runs_in
from atofx.passes.pieces import Pieces, cut, runs_of, single_ids


def components(edges: np.ndarray, size: int) -> np.ndarray:
    matrix = coo_matrix((np.ones(edges.shape[1]), tuple(edges)), shape=(size, size))
    return connected_components(matrix, directed=False)[1]


def by_id(pieces: Pieces, couplings: np.ndarray) -> list[tuple[int, int]]:
    """The component of every id: that of its piece, and its place in it."""
    component = components(pieces.tied(couplings), pieces.starts.size)
    place = np.arange(pieces.of_id.size) - pieces.starts[pieces.of_id]
    return list(zip(component[pieces.of_id].tolist(), place.tolist(), strict=True))


def same_partition(a: list, b: list) -> bool:
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("seed", range(30))
def test_pieces_have_the_components_of_their_ids(seed):
    rng = np.random.default_rng(seed)
    num_ids = 400
    sizes = rng.integers(1, 60, 6)
    couplings = np.stack([rng.integers(0, num_ids - sizes + 1), rng.integers(0, num_ids - sizes + 1), sizes])
    flag = np.zeros(num_ids, dtype=bool)
    flag[rng.integers(0, num_ids, 3)] = True
    axes = np.array([[0, 100, 250], [100, 150, 150]])
    pieces = cut(num_ids, axes, [flag], couplings)
    left, right, sizes = couplings
    alone = components(np.stack([ids_of_runs(left, sizes), ids_of_runs(right, sizes)]), num_ids)
    assert same_partition(by_id(pieces, couplings), alone.tolist())
    assert pieces.sizes.sum() == num_ids
    assert all(len(set(flag[pieces.of_id == piece])) == 1 for piece in range(pieces.starts.size))
    assert {0, 100, 250} <= set(pieces.starts.tolist())


def test_a_long_chain_of_shifts_ends_in_single_ids():
    shifted = np.array([[0], [1], [4000]])
    pieces = cut(4001, np.array([[0], [4001]]), [], shifted)
    assert pieces.starts.size == 4001
    assert len(set(by_id(pieces, shifted))) == 1


def test_pieces_of_places():
    pieces = cut(40, np.array([[0, 10], [10, 30]]), [], np.empty((3, 0), dtype=np.int64))
    assert pieces.of_places(np.array([*range(10, 40), *range(10), *range(10)])).tolist() == [1, 0, 0]
    assert pieces.covered(np.array([[10], [30]])).tolist() == [False, True]
    assert single_ids(3).of_places(np.array([2, 0])).tolist() == [2, 0]


def test_runs():
    places, sizes = runs_in(np.array([3, 4, 5, 9, 8]), np.array([0, 1, 3, 4, 5]))
    assert (places.tolist(), sizes.tolist()) == ([0, 2, 3, 4], [2, 1, 1, 1])
    assert runs_of([np.array([5, 6, 2]), np.array([3])]).tolist() == [[5, 2, 3], [2, 1, 1]]
    assert runs_of([]).shape == (2, 0)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled):
    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        atofx.trace(nn.Linear(3, 4), torch.randn(2, 3))
        assert gc.isenabled() is enabled
        with pytest.raises(TraceError):
            atofx.trace(nn.Linear(3, 4), torch.randn(2, 5))
        assert gc.isenabled() is enabled
    finally:
        gc.enable() if before else gc.disable()


def test_what_a_trace_leaves_is_young_to_the_garbage_collector():
    """Graphs hold themselves, so only the collector frees them; of what is old already it expects no garbage."""
    gc.collect()
    program = atofx.trace(nn.Linear(3, 4), torch.randn(2, 3))
    assert not any(known is program.analysis for known in gc.get_objects(generation=2))
