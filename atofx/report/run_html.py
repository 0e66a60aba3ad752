"""Figures of runs -> one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from string import Template
from typing import Any

import atofx
from atofx.report.inline import document, library, read, script

_LIBRARIES = ("d3.min.js", "plot.min.js")


def run_html(run: dict[str, Any]) -> str:
    """The report of one run (:func:`atofx.report.run_data.run_data`)."""
    return _page(f"{run['name']}: {run['method']} on {run['model']}, {run['data']}", [run], "run")


def comparison_html(runs: Sequence[dict[str, Any]]) -> str:
    """Several runs side by side."""
    return _page(f"{len(runs)} runs", runs, "comparison")


def _page(title: str, runs: Sequence[dict[str, Any]], kind: str) -> str:
    scripts = [script(library(name), name) for name in _LIBRARIES]
    scripts += [script(read("page", f"{name}.js"), f"atofx-{name}") for name in ("format", "dom")]
    scripts += [script(read("run_page", f"{name}.js"), f"atofx-{name}") for name in ("figure", "charts", kind)]
    body = Template(read("run_page", "page.html")).substitute(
        title=html.escape(title), version=html.escape(atofx.__version__)
    )
    style = read("page", "theme.css") + read("run_page", "style.css")
    return document(title, body, style, {"format": "atofx-run/1", "runs": list(runs)}, scripts)
