"""Patterns on qualified names: what they cover, and what to say where one covers nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import TypeAlias

from atofx.errors import ConfigError

Patterns: TypeAlias = str | Sequence[str]
"""One pattern or several: names with ``*``, ``?`` and ``[...]``; a star also matches dots."""


def as_patterns(given: Patterns, option: str) -> tuple[str, ...]:
    """One pattern or several as a tuple.

    Raises:
        ConfigError: something else than text was given for ``option``.
    """
    patterns = (given,) if isinstance(given, str) else tuple(given)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ConfigError(f"{option}= takes patterns on names such as 'layer4.*', not {pattern!r}")
    return patterns


def levels(name: str) -> Iterator[str]:
    """The modules a qualified name lies in, outermost first, and the name itself."""
    return accumulate(name.split("."), "{}.{}".format)


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name or a module it lies in: ``layer4`` and ``layer?.*`` cover ``layer4.0.bn1``."""
    return any(fnmatchcase(level, pattern) for level in levels(name))


def require_match(pattern: str, names: Iterable[str], what: str) -> None:
    """Refuse a pattern that covers none of ``names``.

    Args:
        pattern: one pattern.
        names: qualified names it may cover.
        what: what the names are, for the message: ``"prunable group"``.

    Raises:
        ConfigError: the message offers the nearest names.
    """
    names = list(names)
    if any(covers(pattern, name) for name in names):
        return
    known = dict.fromkeys(level for name in names for level in levels(name))
    near = get_close_matches(pattern.replace("*", "").strip("."), known, n=3, cutoff=0.0)
    hint = f"; the nearest is {', then '.join(repr(name) for name in near)}" if near else ""
    raise ConfigError(f"no {what} matches {pattern!r}{hint}; program.summary() and `atofx inspect` show names")
