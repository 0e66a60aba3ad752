"""What many mappings held at some time: compared all at once, since most are as they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain
from operator import is_
from typing import Any, Generic, TypeVar

from atofx.passes.surroundings import Place

M = TypeVar("M", bound=Place)


class Snapshot(Generic[M]):
    """The keys of mappings in their order, and the very objects that they held.

    Args:
        mappings: with keys that are strings or numbers; they may change from now on.
    """

    def __init__(self, mappings: Sequence[M]) -> None:
        self._mappings = mappings
        now = self._now()
        self._lengths = _lengths(now)
        self._keys, self._values = _keys(now), list(_values(now))

    def changed(self) -> list[tuple[M, dict[Any, Any]]]:
        """Those that hold something else now, and what they held."""
        now = self._now()
        if (_lengths(now), _keys(now)) == (self._lengths, self._keys) and all(map(is_, _values(now), self._values)):
            return []
        return [(live, held) for live, held in self.pairs() if not _is_as_it_was(live, held)]

    def differs(self, mapping: dict[Any, Any]) -> bool:
        """Whether one of them holds something else now; of others nothing is known."""
        place = self._places.get(id(mapping))
        if place is None:
            return False
        now, held = [*mapping.values()], self._values[place[0] : place[1]]
        return len(now) != len(held) or not all(map(is_, now, held))

    @cached_property
    def _places(self) -> dict[int, tuple[int, int]]:
        stops = accumulate(self._lengths)
        ends = zip(self._mappings, self._lengths, stops, strict=True)
        return {id(live): (stop - length, stop) for live, length, stop in ends}

    def pairs(self) -> Iterator[tuple[M, dict[Any, Any]]]:
        """Each, and what it held."""
        start = 0
        for mapping, length in zip(self._mappings, self._lengths, strict=True):
            stop = start + length
            yield mapping, dict(zip(self._keys[start:stop], self._values[start:stop], strict=True))
            start = stop

    def _now(self) -> list[dict[Any, Any]]:
        return [mapping if isinstance(mapping, dict) else mapping.copy() for mapping in self._mappings]


def _lengths(mappings: Sequence[dict[Any, Any]]) -> list[int]:
    return list(map(len, mappings))


def _keys(mappings: Sequence[dict[Any, Any]]) -> list[Any]:
    return list(chain.from_iterable(mappings))


def _values(mappings: Sequence[dict[Any, Any]]) -> Iterator[Any]:
    return chain.from_iterable([mapping.values() for mapping in mappings])


def _is_as_it_was(live: Mapping[Any, Any], held: Mapping[Any, Any]) -> bool:
    return list(live) == list(held) and all(map(is_, live.values(), held.values()))
