"""Groups -> groups of which those that a user excludes stay whole: ``freeze=`` and ``only=`` by name pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from atofx.errors import ConfigError
from atofx.ir.groups import Group
from atofx.ir.patterns import Patterns, as_patterns, covers, require_match
from atofx.passes.group import Grouping

FROZEN = "frozen by freeze="
OUTSIDE = "outside of only="


@dataclass(frozen=True)
class Restriction:
    """What may be pruned, by patterns on the names of parameters, buffers and modules.

    Attributes:
        freeze: a parameter or buffer that one of these covers keeps its shape: no group with a coordinate on it, as
            producer or as consumer, is pruned.
        only: a group is pruned only if each of its producers is covered by one of these; None: no such condition.
            Consumers may lie anywhere: the layer after a pruned one has to be cut with it.
    """

    freeze: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None


def restriction(freeze: Patterns = (), only: Patterns | None = None) -> Restriction:
    """From what a user wrote: a pattern, or several.

    Raises:
        ConfigError: a pattern is not text, or ``only`` names nothing.
    """
    if only is not None and not only:
        raise ConfigError("only= holds no pattern, so nothing could be pruned; leave it out to allow every group")
    return Restriction(as_patterns(freeze, "freeze"), None if only is None else as_patterns(only, "only"))


def restrict(grouping: Grouping, names: Mapping[str, str], wanted: Restriction) -> Grouping:
    """The same groups under the same names, those that ``wanted`` excludes not prunable, with the pattern as reason.

    Args:
        grouping: of the whole model.
        names: canonical name of every parameter and buffer, by any of its names (a tied one has several).
        wanted: the user's patterns.

    Raises:
        ConfigError: a pattern covers no parameter or buffer; the message offers the nearest names.
    """
    for option, patterns in (("freeze", wanted.freeze), ("only", wanted.only or ())):
        for pattern in patterns:
            require_match(pattern, names, f"parameter, buffer or module ({option}=)")
    groups = list(grouping.groups)
    if wanted.freeze or wanted.only is not None:
        frozen = _covered(wanted.freeze, names)
        allowed = None if wanted.only is None else _covered(wanted.only, names)
        groups = [_excluded(group, frozen, allowed, wanted) if group.prunable else group for group in groups]
    order = sorted(range(len(groups)), key=lambda index: not groups[index].prunable)
    if order == list(range(len(groups))):
        return Grouping(tuple(groups), grouping.group_of, grouping.unit_of)
    position = torch.full((len(groups) + 1,), -1)  # the last entry is for ids of no group
    position[order] = torch.arange(len(groups))
    return Grouping(tuple(groups[index] for index in order), position[grouping.group_of], grouping.unit_of)


def _covered(patterns: tuple[str, ...], names: Mapping[str, str]) -> dict[str, str]:
    """The first pattern that covers a tensor by any of its names, by canonical name."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for name, canonical in names.items():
            if covers(pattern, name):
                found.setdefault(canonical, pattern)
    return found


def _excluded(group: Group, frozen: dict[str, str], allowed: dict[str, str] | None, wanted: Restriction) -> Group:
    """The group, not prunable any more where it touches a frozen tensor or produces outside of ``only``."""
    touched = next((m.name for m in group.members if m.name in frozen), None)
    if touched is not None:
        return replace(group, prunable=False, reason=f"{FROZEN}{frozen[touched]!r}, which covers {touched}")
    outside = next((m.name for m in group.members if m.role == "producer" and m.name not in (allowed or ())), None)
    if allowed is not None and outside is not None:
        patterns = ", ".join(repr(pattern) for pattern in wanted.only or ())
        return replace(group, prunable=False, reason=f"{OUTSIDE}{patterns}: {outside} produces these channels too")
    return group
