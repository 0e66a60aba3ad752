"""Arguments and options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of the zoo (resnet20), of torchvision (mobilenet_v2), or package.module:factory.",
    ),
]
Weights = Annotated[
    Optional[str],  # noqa: UP045 - typer of Python 3.10 reads this spelling too
    typer.Option(metavar="FILE", help="Weights to load: a .safetensors file, or `pretrained` for torchvision's own."),
]
InputShape = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        metavar="N,C,H,W",
        help="Shape of the example input; repeat it for a model of several inputs. Known models have a default.",
    ),
]
ModelArgument = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--arg", metavar="KEY=VALUE", help="An argument for the model's factory, such as num_classes=10."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random: initial weights, random masks.")]
MaskFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--mask", metavar="FILE", help="A mask in JSON, as `atofx prune` and `atofx train` write it."),
]
