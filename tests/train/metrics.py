"""What a run has recorded."""

import json
from pathlib import Path
from typing import Any


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind, in order."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]
