"""``atofx report``: the page of a run, and runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from atofx.cli import options, output
from atofx.errors import ConfigError
from atofx.report.run_data import run_data
from atofx.report.run_report import write_comparison, write_run_report
from atofx.report.text import table


def run(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of finished runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The page to write: report.html in the folder of the run, comparison.html here for several."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a page with everything a run has measured, or compare several runs: accuracy against FLOPs.

    The page is one HTML file that needs no network. `atofx train` leaves one in every run folder.
    """
    if out is not None and (out.is_dir() or out.suffix.lower() != ".html"):
        raise ConfigError(f"--out {str(out)!r} is no name of a page; it ends in .html")
    twice = next((folder for folder in runs if sum(folder.resolve() == other.resolve() for other in runs) > 1), None)
    if twice is not None:
        raise ConfigError(f"{str(twice)!r} is named twice; name every run once")
    figures = [run_data(folder) for folder in runs]
    several = len(runs) > 1
    page = write_comparison(runs, out or Path("comparison.html")) if several else write_run_report(runs[0], out)
    data = {"page": str(page), "runs": [{"folder": str(f), **brief(d)} for f, d in zip(runs, figures, strict=True)]}
    output.emit(data, f"{_text(runs, figures)}\n\nThe page is {page}", as_json=as_json)


def brief(figures: dict[str, Any]) -> dict[str, Any]:
    """What a machine wants to know of a run, without its curves."""
    result = figures["result"]
    return {
        **{name: figures[name] for name in ("method", "model", "data", "seed")},
        **{score["name"]: score["compact"] for score in result["scores"]},
        "flops": result["flops_compact"],
        "flops_kept": result["flops_compact"] / result["flops_dense"],
        "params": result["params_compact"],
        "params_kept": result["params_compact"] / result["params_dense"],
        "latency_ms": result["latency_compact_ms"],
        "times_faster": result["speedup"],
    }


def titles(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """What the scores of a run are called."""
    return tuple(score["title"] for score in figures["result"]["scores"])


def method_rows(figures: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Scores, FLOPs and parameters kept, and gain in time of each run, for people."""

    def kept(result: Mapping[str, Any], what: str) -> str:
        return f"{100 * result[f'{what}_compact'] / result[f'{what}_dense']:.1f} %"

    return [
        (
            *(f"{score['compact']:.2f} %" for score in result["scores"]),
            kept(result, "flops"),
            kept(result, "params"),
            f"{result['speedup']:.2f}",
        )
        for result in (one["result"] for one in figures)
    ]


def note(figures: Mapping[str, Any]) -> str:
    """What the columns of the scores and of the FLOPs mean."""
    sample = figures["result"]["words"]["sample"]
    return f"FLOPs: multiply-adds of one {sample}, counted once; {' and '.join(titles(figures))} of the compact model"


def _text(runs: list[Path], figures: list[dict[str, Any]]) -> str:
    columns = ("run", "method", "model", *titles(figures[0]), "FLOPs kept", "parameters kept", "times faster")
    rows = [
        (str(folder), one["method"], one["model"], *cells)
        for folder, one, cells in zip(runs, figures, method_rows(figures), strict=True)
    ]
    return f"{table(columns, rows)}\n{note(figures[0])}"
