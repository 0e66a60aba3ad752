"""Arguments and options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atofx.cli.cut_folder import mask_file
from atofx.passes.trace import Frontend as _Frontend

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of the zoo (resnet20) or of torchvision (mobilenet_v2); zoo:NAME or torchvision:NAME where both "
        "have it (resnet18, vgg16_bn); package.module:factory; or the folder of a Hugging Face BERT.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="A .safetensors file (a state dict, or a checkpoint of a run), or `pretrained` for torchvision's weights.",
    ),
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
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Parameters, buffers or modules that keep their shapes (* and ?; `stem` means all below it); repeatable.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Prune only channels that are produced wholly below these; repeatable."),
]
Granularity = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[PATTERN=]CHOICE",
        help="What attention loses: heads, or dims (one dimension of every head); by module name: '*.attn=dims'.",
    ),
]
RoundTo = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|auto[:BACKEND]",
        help="Keep multiples of so many channels, for fast kernels; auto: measure what a back end likes here.",
    ),
]
MinUnits = Annotated[int, typer.Option(min=1, help="Keep at least so many units (channels, heads) of every group.")]
MinWidth = Annotated[int, typer.Option(min=1, help="Keep at least so many channels of every group.")]
MinKeep = Annotated[float, typer.Option(min=0.0, max=1.0, help="Keep at least this share of every group.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN=SHARE",
        help="A smallest kept share for groups of these names, or another limit: 'layer4.*:round_to=16'; repeatable.",
    ),
]
Frontend = Annotated[
    _Frontend,
    typer.Option(help="What captures the graph; auto: symbolic tracing, and torch.export where that cannot."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random: initial weights, random masks.")]
MaskFile = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        callback=mask_file,
        help="A mask in JSON, as `atofx prune` and `atofx train` write it, or their folder.",
    ),
]
