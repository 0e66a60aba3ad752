"""Limits and granularity from the options of the command line."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from atofx.errors import ConfigError
from atofx.ir.granularity import GranularityOption
from atofx.ir.limits import Limits


def granularity_from(texts: Sequence[str] | None) -> GranularityOption:
    """What ``--granularity`` says: a choice, or one for each of several patterns; :func:`atofx.trace` checks it."""
    pairs = (text.rpartition("=") for text in texts or ())
    return [(pattern or "*", choice) for pattern, _, choice in pairs]  # type: ignore[misc]


def limits_from(
    *,
    round_to: int = 1,
    min_units: int = 1,
    min_width: int = 1,
    min_keep: float = 0.0,
    limit: Sequence[str] | None = None,
) -> Limits:
    """The limits that ``--round-to``, ``--min-units``, ``--min-width``, ``--min-keep`` and ``--limit`` give together.

    Raises:
        ConfigError: a ``--limit`` is not of its form, or a value is out of range.
    """
    per_group: dict[str, dict[str, float]] = {}
    for text in limit or ():
        where, equals, number = text.rpartition("=")
        pattern, colon, name = where.rpartition(":")
        if not colon:
            pattern, name = where, "min_keep"
        if not equals or not pattern:
            raise ConfigError(f"--limit {text!r} is not PATTERN=SHARE such as 'layer4.*=0.5', or PATTERN:LIMIT=NUMBER")
        per_group.setdefault(pattern, {})[name] = yaml.safe_load(number)
    return Limits(min_units, min_width, min_keep, round_to, per_group)
