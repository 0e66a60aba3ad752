"""What the run that wrote a mask left beside it."""

from __future__ import annotations

import json
from pathlib import Path

from atofx.errors import FileError


def recorded(mask: Path) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """freeze, only and granularity of the run that wrote a mask, as `atofx prune` and `atofx train` leave them.

    Raises:
        FileError: there is a result.json beside the mask that cannot be read.
    """
    file = mask.with_name("result.json")
    if not file.exists():
        return None, None, None
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        granularity = [f"{pattern}={choice}" for pattern, choice in result.get("granularity") or ()]
        return result.get("freeze"), result.get("only"), granularity
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileError(f"cannot read {str(file)!r}, the result of the run that wrote the mask: {error}") from error
