"""``atofx inspect``: what can be pruned, what it costs, what is pinned and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atofx.cli import models, options, output
from atofx.cli.tracing import traced
from atofx.report.overview import overview
from atofx.report.text import overview_text


def run(
    model: options.Model,
    weights: options.Weights = None,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    seed: options.Seed = 0,
    freeze: options.Freeze = None,
    only: options.Only = None,
    granularity: options.Granularity = None,
    frontend: options.Frontend = "auto",
    axes: Annotated[bool, typer.Option("--axes", help="List every axis of every group.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on an operation without a record instead of pinning what reaches it.")
    ] = False,
    draw: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Draw the dependency graph: .html, .svg, .png or .dot; repeatable."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show the groups of coupled channels, their share of the FLOPs, and what is pinned and why."""
    loaded = models.load(model, weights=weights, shapes=input_shape, arguments=arg, seed=seed)
    program = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity, strict=strict)
    view = overview(program)
    drawn = [str(program.draw(file)) for file in draw or ()]
    data = {"model": loaded.name, "origin": loaded.origin, **view.to_dict(), "drawn": drawn}
    text = "\n\n".join([overview_text(view, loaded.title, axes=axes), *(f"Drawn to {file}." for file in drawn)])
    output.emit(data, text, as_json=as_json)
