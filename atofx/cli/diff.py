"""``atofx diff``: two masks of one model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from atofx.cli import options, output
from atofx.cli.cut_folder import mask_file
from atofx.ir.mask import Mask
from atofx.report.difference import difference_text, differences

_HELP = "A mask in JSON, or the folder of a run that holds one."


def run(
    a: Annotated[Path, typer.Argument(metavar="A", help=_HELP)],
    b: Annotated[Path, typer.Argument(metavar="B", help=_HELP)],
    as_json: options.Json = False,
) -> None:
    """Say where two masks of one model differ: what each keeps of every group, and how much of it both keep."""
    first, second = (mask_file(path) or path for path in (a, b))
    rows = differences(Mask.load(first), Mask.load(second))
    groups = [{**asdict(row), "agreement": row.agreement} for row in rows]
    data = {"a": str(first), "b": str(second), "equal": all(row.agreement == 1 for row in rows), "groups": groups}
    output.emit(data, difference_text(rows, (str(a), str(b))), as_json=as_json)
