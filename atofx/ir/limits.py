"""How far groups may be cut: minimum widths and rounding, for all groups and by name pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import ceil, gcd
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch

from atofx.errors import ConfigError, MaskError
from atofx.ir.groups import Group
from atofx.ir.patterns import covers, require_match

Narrow = Literal["halved", "free"]
"""What rounding does to groups less than twice as wide as ``round_to``."""

_FIELDS = ("min_units", "min_width", "min_keep", "round_to")


@dataclass(frozen=True)
class Limits:
    """The numbers of units that a group may keep. Keeping all of them is always allowed.

    Attributes:
        min_units: fewest units.
        min_width: fewest channels; a group that is not wider stays whole.
        min_keep: smallest kept share of the units, 0 to 1.
        round_to: kept channels are a multiple of this, in whole units, where the group is at least twice that wide.
            Narrower groups follow ``narrow``.
        per_group: by pattern on group names, the fields that differ there: ``{"layer4.*": {"min_keep": 0.5}}``. Of
            several patterns that cover a group, the last to set a field holds.
        narrow: ``"halved"`` rounds a group less than twice as wide as ``round_to`` to half of that, a quarter, … the
            first that fits twice: kernels pad a width of 17 to their block as they would 24. ``"free"`` leaves it.

    Raises:
        ConfigError: a field is unknown or out of range.
    """

    min_units: int = 1
    min_width: int = 1
    min_keep: float = 0.0
    round_to: int = 1
    per_group: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    narrow: Narrow = "halved"

    def __post_init__(self) -> None:
        for name in _FIELDS:
            _check_value(name, getattr(self, name))
        if self.narrow not in get_args(Narrow):
            raise ConfigError(f"narrow={self.narrow!r} is unknown; it is {' or '.join(map(repr, get_args(Narrow)))}")
        if not isinstance(self.per_group, Mapping):
            raise ConfigError(f"per_group={self.per_group!r} is no mapping of patterns to limits")
        for pattern, changes in self.per_group.items():
            _check_fields(pattern, changes)
        frozen = {pattern: MappingProxyType(dict(changes)) for pattern, changes in self.per_group.items()}
        object.__setattr__(self, "per_group", MappingProxyType(frozen))

    def rounded(self, round_to: int, narrow: Narrow = "halved") -> Limits:
        """These limits with ``round_to`` (and ``narrow``) for all groups; 1 leaves them as they are.

        Raises:
            ConfigError: below 1, or the limits name another number already.
        """
        if round_to == 1 or round_to == self.round_to:
            return self
        if self.round_to != 1:
            raise ConfigError(f"round_to={round_to} and limits with round_to={self.round_to}: give it once")
        return replace(self, round_to=round_to, narrow=narrow)

    def of(self, group: Group) -> Limits:
        """What holds for one group."""
        changes: dict[str, Any] = {}
        for pattern, entry in self.per_group.items():
            if covers(pattern, group.name):
                changes.update(entry)
        return replace(self, per_group={}, **changes)

    def allowed(self, group: Group) -> torch.Tensor:
        """The numbers of units that the group may keep, int64, rising; the last is its size."""
        mine = self.of(group)
        width = max(1, group.channels // group.size)
        multiple = self._multiple(mine.round_to, group.channels)
        step = multiple // gcd(multiple, width)
        least = max(mine.min_units, ceil(mine.min_width / width), ceil(mine.min_keep * group.size - 1e-9))
        whole = torch.tensor([group.size])
        return torch.cat([torch.arange(min(ceil(least / step) * step, group.size), group.size, step), whole])

    def _multiple(self, round_to: int, channels: int) -> int:
        """Of which number a group that wide keeps a multiple."""
        if channels >= 2 * round_to:
            return round_to
        if self.narrow == "free" or round_to % 2:
            return 1
        return self._multiple(round_to // 2, channels)

    def allowed_counts(self, groups: Iterable[Group]) -> dict[str, torch.Tensor]:
        """:meth:`allowed` for every prunable group of a program.

        Raises:
            ConfigError: a pattern of ``per_group`` covers none of them.
        """
        found = {group.name: self.allowed(group) for group in groups}
        for pattern in self.per_group:
            require_match(pattern, found, "prunable group (limits)")
        return found

    def check(self, groups: Sequence[Group], mask: Mapping[str, torch.Tensor]) -> None:
        """Refuse a mask that keeps a number of units which is not allowed.

        Raises:
            MaskError: names the groups, what they keep and the nearest allowed numbers.
            ConfigError: a pattern of ``per_group`` covers no group.
        """
        wrong = []
        for name, allowed in self.allowed_counts(groups).items():
            kept = int(mask[name].sum())
            if kept not in allowed:
                near = nearest(allowed, torch.tensor(kept)).item()
                wrong.append(f"{name!r} keeps {kept} of {int(allowed[-1])} units (nearest allowed: {near})")
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise MaskError(f"the mask is outside of the limits: {'; '.join(wrong[:3])}{more}")

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON types."""
        own = {name: getattr(self, name) for name in _FIELDS}
        return {
            **own,
            "narrow": self.narrow,
            "per_group": {pattern: dict(changes) for pattern, changes in self.per_group.items()},
        }


def nearest(allowed: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """For every count the allowed one that is nearest, the larger of two."""
    above = torch.searchsorted(allowed, counts).clamp(max=len(allowed) - 1)
    below = (above - 1).clamp(min=0)
    return torch.where(allowed[above] - counts <= counts - allowed[below], allowed[above], allowed[below])


def _check_value(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "min_keep" and not (number and 0 <= value <= 1):
        raise ConfigError(f"min_keep={value!r} is not a share; it lies in [0, 1], 0.5 keeps half or more")
    if name != "min_keep" and not (number and isinstance(value, int) and value >= 1):
        raise ConfigError(f"{name}={value!r} must be at least 1, and whole")


def _check_fields(pattern: str, changes: Mapping[str, float]) -> None:
    if not isinstance(changes, Mapping):
        raise ConfigError(f"limits of {pattern!r} are a mapping such as {{'min_keep': 0.5}}, not {changes!r}")
    for name in changes:
        if name not in _FIELDS:
            near = get_close_matches(str(name), _FIELDS, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"unknown limit {name!r} of {pattern!r}; did you mean {near!r}? There are: {', '.join(_FIELDS)}"
            )
        try:
            _check_value(name, changes[name])
        except ConfigError as error:
            raise ConfigError(f"limits of {pattern!r}: {error}") from error


#: At least one unit of every group stays; nothing else.
NO_LIMITS = Limits()
