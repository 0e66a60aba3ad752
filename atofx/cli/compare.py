"""``atofx compare``: several methods under one configuration."""

from __future__ import annotations

import inspect
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from atofx.cli import output
from atofx.cli.report import brief, method_rows, note, titles
from atofx.cli.train import config_from, config_options
from atofx.errors import ConfigError
from atofx.report.run_data import run_data
from atofx.report.run_report import write_comparison
from atofx.report.text import table
from atofx.train.comparison import Compared, run_methods

PAGE = "comparison.html"
_DENSE = "none"
_EACH_RUNS_OWN = frozenset({"method", "out", "resume", "baseline"})


def run(
    methods: str, out: Path, config: str | None, assignments: list[str] | None, as_json: bool, **fields: Any
) -> None:
    """Train one network with several methods, the same epochs and data for each, beside the dense network.

    Every method has a run folder of its own under --out; called again, the command keeps what is finished and goes on
    with the rest. The table, and a page with accuracy against FLOPs and all curves, show them side by side.
    """
    chosen = config_from(config, assignments, fields)
    named = [name.strip() for name in methods.split(",") if name.strip()]
    if not named:
        raise ConfigError("no method to compare; name some with --methods, such as ato,hesso,l2")
    with redirect_stdout(sys.stderr):  # what the runs say on their way
        compared = run_methods(chosen, [_DENSE, *named], out)
    page = write_comparison([one.folder for one in compared], out / PAGE)
    figures = [run_data(one.folder) for one in compared]
    rows = [_row(one, found, compared[0].samples_per_second) for one, found in zip(compared, figures, strict=True)]
    output.emit({"page": str(page), "runs": rows}, f"{_text(rows, figures)}\n\nThe page is {page}", as_json=as_json)


def _row(one: Compared, figures: dict[str, Any], dense_speed: float) -> dict[str, Any]:
    return {"folder": str(one.folder), **brief(figures), "epoch_time": dense_speed / one.samples_per_second}


def _text(rows: list[dict[str, Any]], figures: list[dict[str, Any]]) -> str:
    columns = ("method", *titles(figures[0]), "FLOPs kept", "parameters kept", "times faster", "time of an epoch")
    lines = [
        (row["method"].replace(_DENSE, "dense"), *cells, f"{row['epoch_time']:.2f} x")
        for row, cells in zip(rows, method_rows(figures), strict=True)
    ]
    return f"{table(columns, lines)}\n{note(figures[0])}; epochs beside the dense network's"


def _options() -> list[inspect.Parameter]:
    def keyword(name: str, kind: Any, option: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )

    return [
        keyword("methods", str, typer.Option(metavar="NAME,…", help="What is compared: ato,hesso,scratch,tas,l2.")),
        keyword("out", Path, typer.Option(metavar="DIR", help=f"Folder of the run folders and {PAGE}.")),
        *config_options(leave_out=_EACH_RUNS_OWN),
        keyword("as_json", bool, typer.Option("--json", help="Print one JSON object."), default=False),
    ]


vars(run)["__signature__"] = inspect.Signature(_options())
run.__annotations__ = {option.name: option.annotation for option in _options()}
