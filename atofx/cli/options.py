"""Arguments and options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of the zoo (resnet20), of torchvision (mobilenet_v2), or package.module:factory.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Weights to load: a .safetensors file, or `pretrained` for torchvision's own."),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N,C,H,W",
        help="Shape of the example input; repeat it for a model of several inputs. Known models have a default.",
    ),
]
ModelArgument = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="KEY=VALUE", help="An argument for the model's factory, such as num_classes=10."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random: initial weights, random masks.")]
MaskFile = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="A mask in JSON, as `atofx prune` and `atofx train` write it."),
]
