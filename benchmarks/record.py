"""How benchmarks write down what they measured: one JSON file, and a table where there is one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def circumstances(*packages: str) -> dict[str, Any]:
    """The command, the versions of Python, torch and the named packages, and the machine's kind."""
    module = sys.modules["__main__"].__spec__
    name = f"-m {module.name}" if module else Path(sys.argv[0]).name
    return {
        "command": f"python {name} {shlex.join(sys.argv[1:])}".strip(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in ("torch", *packages)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write(name: str, result: Mapping[str, Any], table: str | None = None) -> Path:
    """Write ``results/name.json``, and ``results/name.md`` if there is a table; returns the JSON file's path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    if table is not None:
        (RESULTS / f"{name}.md").write_text(table)
    return path


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers are aligned to the right."""
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "|".join("---" if i == 0 else "---:" for i in range(len(header))) + "|",
    ]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
