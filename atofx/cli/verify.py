"""``atofx verify``: the compact model against the masked one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import atofx
from atofx.cli import models, options, output
from atofx.cli.tracing import traced, traced_for
from atofx.errors import ConfigError
from atofx.report.text import verify_text


def run(
    model: options.Model,
    weights: options.Weights = None,
    mask: options.MaskFile = None,
    keep: Annotated[
        float | None, typer.Option(help="Without --mask: the part of every group to keep, above 0. [default: 0.5]")
    ] = None,
    round_to: Annotated[
        int | None, typer.Option(min=1, help="Without --mask: keep multiples of so many channels. [default: 1]")
    ] = None,
    freeze: options.Freeze = None,
    only: options.Only = None,
    granularity: options.Granularity = None,
    seed: options.Seed = 0,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    frontend: options.Frontend = "auto",
    as_json: options.Json = False,
) -> None:
    """Compact the model and prove it in float64: same function, FLOPs and parameters as predicted.

    Exit code 0 if all of it holds, 1 if not. With --mask, --freeze, --only and --granularity are those of the run that
    wrote the mask, from the result.json beside it, unless given; residual blocks that it left out are left out here.
    """
    if mask is not None and (keep is not None or round_to is not None):
        raise ConfigError("--mask says what was cut; leave out --keep and --round-to")
    loaded = models.load(model, weights=weights, shapes=input_shape, arguments=arg, seed=seed)
    if mask is None:
        program = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
        chosen = program.random_mask(keep=0.5 if keep is None else keep, seed=seed, round_to=round_to or 1)
    else:
        _, program = traced_for(mask, loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
        chosen = atofx.Mask.load(mask)
    report = program.verify(chosen)
    kept, units = sum(chosen.kept.values()), sum(vector.numel() for vector in chosen.values())
    data = {"model": loaded.name, "units": units, "units_kept": kept, "ok": report.ok, **asdict(report)}
    title = f"{loaded.title}, {kept} of {units} units kept"
    output.emit(data, verify_text(report, title), as_json=as_json)
    if not report.ok:
        raise typer.Exit(1)
