"""Ids cut into pieces that everything else takes whole: what holds for one id of a piece holds for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atofx.ir.values import ids_of_runs, runs_in

Array = np.ndarray[Any, Any]

#: Cuts carried along couplings that many times are carried no further: every id is a piece of its own then.
_ROUNDS = 16
#: Nor do pieces pay where they are this short.
_WORTHWHILE = 4


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of ids, one after the other from the first id to the last.

    Attributes:
        starts: the first id of each.
        sizes: how many ids each has.
        of_id: by id: its piece.
    """

    starts: Array
    sizes: Array
    of_id: Array

    def of_runs(self, starts: Array, sizes: Array) -> tuple[Array, Array]:
        """The pieces that runs of ids are made of, run after run, and how many each has."""
        first, stop = self.bounds(starts, sizes)
        counts = stop - first
        return ids_of_runs(first, counts), counts

    def bounds(self, starts: Array, sizes: Array) -> tuple[Array, Array]:
        """The first piece of each of some runs of ids, and the one behind its last."""
        return self.of_id[starts], self.of_id[starts + sizes - 1] + 1

    def covered(self, runs: Array) -> Array:
        """Bool by piece: whether runs, (2, R) first ids and lengths, none of which overlap, contain it."""
        changes = np.zeros(self.starts.size + 1, dtype=np.int8)
        first, stop = self.bounds(*runs)
        np.add.at(changes, first, 1)
        np.add.at(changes, stop, -1)
        return changes[:-1].cumsum() > 0

    def tied(self, couplings: Array) -> Array:
        """(2, E): pairs of pieces that couplings (3, C), first ids of two runs and how long both are, make one."""
        left, right, sizes = couplings
        pieces, counts = self.of_runs(left, sizes)
        return np.stack([pieces, pieces + np.repeat(self.of_id[right] - self.of_id[left], counts)])

    def of_places(self, ids: Array) -> Array:
        """The pieces that lie in a tensor, each as often as it does."""
        pieces = self.of_id[ids]
        whole: Array = pieces[self.starts[pieces] == ids]
        return whole


def single_ids(num_ids: int) -> Pieces:
    """Every id is a piece."""
    every = np.arange(num_ids)
    return Pieces(every, np.ones_like(every), every)


def runs_of(ids: Iterable[Array]) -> Array:
    """(2, R): the first id and the length of every run of consecutive ids in some arrays."""
    found = [np.empty((2, 0), dtype=np.int64)]
    for array in ids:
        places, sizes = runs_in(array)
        found.append(np.stack([array[places], sizes]))
    return np.concatenate(found, 1)


def with_runs_of(edges: Array, couplings: Array) -> Array:
    """Couplings, (3, C), and those that pairs of ids, (2, E), one after the other, make."""
    if not edges.size:
        return couplings
    places, sizes = runs_in(*edges)
    return np.concatenate([couplings, [*edges[:, places], sizes]], 1)


def cut(num_ids: int, runs: Array, flags: Sequence[Array], couplings: Array) -> Pieces:
    """Pieces of which runs are made, in which no flag changes, and that couplings tie to whole others in order.

    Args:
        num_ids: how many ids there are.
        runs: (2, R) first ids and lengths.
        flags: bool per id.
        couplings: (3, C) first ids of two runs, and how long both are.
    """
    left, right, sizes = couplings
    if num_ids < _WORTHWHILE * (runs.shape[1] + sizes.size):
        return single_ids(num_ids)
    ends = np.zeros(num_ids + 1, dtype=bool)
    ends[[0, num_ids]] = True
    for flag in flags:
        ends[1:-1] |= flag[1:] != flag[:-1]
    starts, lengths = np.concatenate([runs, [left, sizes], [right, sizes]], 1)
    ends[starts] = True
    ends[starts + lengths] = True
    return _closed(ends, np.concatenate([[left, right - left, sizes], [right, left - right, sizes]], 1))


def _closed(ends: Array, moves: Array) -> Pieces:
    """The pieces between ``ends`` (True by id), cut further until every move takes ends to ends.

    Args:
        ends: changed in place.
        moves: (3, C) the first id of a run, how much further what it is coupled with lies, and how long it is.
    """
    starts, shifts, lengths = moves
    for _ in range(_ROUNDS):
        bounds = np.flatnonzero(ends)
        first, last = np.searchsorted(bounds, np.stack([starts, starts + lengths]))
        inside = last - first
        moved = bounds[ids_of_runs(first, inside)] + np.repeat(shifts, inside)
        if ends[moved].all():
            sizes = np.diff(bounds)
            return Pieces(bounds[:-1], sizes, np.repeat(np.arange(sizes.size), sizes))
        ends[moved] = True
    return single_ids(ends.size - 1)
