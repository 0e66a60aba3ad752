"""``atofx compact``: what a sparse training left at zero is removed, without training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from atofx.cli import models, options, output
from atofx.cli.cut_folder import MASK, RESULT, RUN, WEIGHTS, check_cut_folder, measure, save_cut, save_result
from atofx.cli.tracing import traced, traced_for
from atofx.errors import FileError
from atofx.ir.mask import Mask
from atofx.report.text import compact_text


def run(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A .safetensors file: a state dict, or the checkpoint of a run (last.safetensors).",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="What it is a checkpoint of: a name of the zoo, of torchvision, the folder of a Hugging Face BERT, or "
            "package.module:factory."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help=f"Folder for {MASK}, {WEIGHTS} and {RESULT}; made if missing.")
    ],
    freeze: options.Freeze = None,
    only: options.Only = None,
    granularity: options.Granularity = None,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    frontend: options.Frontend = "auto",
    as_json: options.Json = False,
) -> None:
    """Find the units that a finished sparse training left at exactly zero, and remove them; nothing is trained.

    In the folder of a run, --freeze, --only and --granularity are those of that run, unless one of them is given.
    The folder then holds the mask, the compact model's weights (for atofx.load) and the numbers printed here.
    """
    check_cut_folder(out)
    if checkpoint.is_dir():
        raise FileError(f"{str(checkpoint)!r} is a folder; name the file in it (CHECKPOINT), such as last.safetensors")
    if not checkpoint.is_file():
        raise FileError(f"no file {str(checkpoint)!r} (CHECKPOINT)")
    loaded = models.load(model, weights=str(checkpoint), shapes=input_shape, arguments=arg)
    if (checkpoint.parent / RUN).exists():
        program, _ = traced_for(
            checkpoint, loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity
        )
    else:
        program = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
    mask = program.zero_mask()
    if mask == program.full_mask():
        units = sum(len(vector) for vector in mask.values())
        raise FileError(
            f"nothing in {checkpoint} is zero: none of the {units} units of {model} that could go. It was not trained "
            "to group sparsity, or not to the end; `atofx prune` cuts trained models by a criterion"
        )
    if (out / MASK).exists():
        output.warn(f"the cut that was in {out} is replaced")
    save_cut(program, mask, out)
    result = {
        "model": loaded.name,
        "checkpoint": str(checkpoint),
        **asdict(program.options),
        "groups": _groups(mask),
        **measure(program, mask),
    }
    save_result(result, out)
    output.emit(result, compact_text(result, loaded.title, out), as_json=as_json)


def _groups(mask: Mask) -> list[dict[str, str | int]]:
    return [{"name": n, "units": len(vector), "zero": int((~vector).sum())} for n, vector in mask.items()]
