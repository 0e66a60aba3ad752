"""``atofx prune``: one look at the weights, a FLOPs target, a compact model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import atofx
from atofx.cli import models, options, output
from atofx.errors import FileError
from atofx.ir.mask import Mask
from atofx.methods import oneshot
from atofx.program import Program
from atofx.report.text import prune_text

#: Files in the folder of ``--out``.
MASK, WEIGHTS, RESULT = "mask.json", "model.safetensors", "result.json"

Criterion = Literal["l2", "l1", "bn-scale", "taylor", "random"]
Scope = Literal["global", "uniform"]


def run(
    model: options.Model,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help=f"Folder for {MASK}, {WEIGHTS} and {RESULT}; made if missing.")
    ],
    flops: Annotated[float, typer.Option(help="Kept fraction of the whole model's FLOPs.")] = 0.5,
    criterion: Annotated[Criterion, typer.Option(help="How units are ranked.")] = "l2",
    scope: Annotated[
        Scope, typer.Option(help="Rank units over the whole network, or keep the same share of every group.")
    ] = "global",
    groups: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Prune only groups of these names (* and ?); repeatable."),
    ] = None,
    round_to: Annotated[int, typer.Option(min=1, help="Keep multiples of so many channels, for fast kernels.")] = 1,
    weights: options.Weights = None,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Remove the least important units of a trained model down to a FLOPs target, in one step.

    The folder then holds the mask, the compact model's weights (for atofx.load) and the numbers printed here.
    """
    _writable(out)
    loaded = models.load(model, weights=weights, shapes=input_shape, arguments=arg, seed=seed)
    program = atofx.trace(loaded.module, loaded.inputs)
    mask = oneshot(program, flops, criterion, scope=scope, groups=groups, round_to=round_to, seed=seed)
    if not loaded.trained and criterion != "random":
        output.warn(
            f"{model} has random weights, so {criterion} ranks noise; --weights FILE.safetensors loads trained ones"
        )
    result = {"model": loaded.name, "criterion": criterion, "scope": scope, **_measure(program, mask)}
    mask.save(out / MASK)
    atofx.save(program, mask, out / WEIGHTS)
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    output.emit(result, prune_text(result, loaded.title, out), as_json=as_json)


def _measure(program: Program, mask: Mask) -> dict[str, Any]:
    report = program.verify(mask)
    return {
        "units": sum(vector.numel() for vector in mask.values()),
        "units_kept": sum(mask.kept.values()),
        "flops_dense": int(program.flops()),
        "flops_compact": report.flops_counted,
        "params_dense": int(program.params()),
        "params_compact": report.params_counted,
        "error": report.error,
        "ok": report.ok,
    }


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(out)!r} (--out): {error}") from error
