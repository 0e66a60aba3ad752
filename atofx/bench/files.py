"""The folder of a measurement: numbers as JSON, and a plot."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atofx.bench.report import BenchReport
from atofx.errors import FileError
from atofx.ir.files import write_whole

#: Files in the folder.
REPORT, PLOT = "bench.json", "bench.png"


def write(data: Mapping[str, Any], report: BenchReport, folder: Path, title: str) -> bool:
    """Write ``data`` as JSON, and the report's times as a plot where matplotlib is installed; returns whether it is.

    Raises:
        FileError: the folder cannot be made, or not written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(folder)!r} (--out): {error}") from error
    write_whole(folder / REPORT, (json.dumps(data, indent=2) + "\n").encode())
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from atofx.bench.plot import plot

    plot(report, folder / PLOT, title)
    return True
