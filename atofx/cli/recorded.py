"""What the run that wrote a mask left beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from atofx.errors import FileError


@dataclass(frozen=True)
class Recorded:
    """How the run that wrote a mask traced its model, None where it leaves that open.

    Attributes:
        freeze: patterns of what kept its shape.
        only: patterns of what might be pruned.
        granularity: ``PATTERN=CHOICE`` entries.
        without: names of residual blocks that were left out as a whole.
    """

    freeze: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    granularity: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()


def recorded(mask: Path) -> Recorded:
    """What `atofx prune` and `atofx train` left beside a mask.

    Raises:
        FileError: there is a result.json beside the mask that cannot be read.
    """
    file = mask.with_name("result.json")
    if not file.exists():
        return Recorded()
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        granularity = tuple(f"{pattern}={choice}" for pattern, choice in result.get("granularity") or ())
        freeze, only = (None if result.get(key) is None else tuple(result[key]) for key in ("freeze", "only"))
        return Recorded(freeze, only, granularity, tuple(result.get("without") or ()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileError(f"cannot read {str(file)!r}, the result of the run that wrote the mask: {error}") from error
