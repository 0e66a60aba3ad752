"""``atofx explain``: one parameter, its group and its fate."""

from __future__ import annotations

from typing import Annotated

import typer

from atofx.cli import models, options, output
from atofx.cli.tracing import traced
from atofx.errors import ConfigError, did_you_mean


def run(
    model: options.Model,
    parameter: Annotated[str, typer.Argument(metavar="PARAMETER", help="Such as layer1.0.conv1.weight.")],
    freeze: options.Freeze = None,
    only: options.Only = None,
    granularity: options.Granularity = None,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    frontend: options.Frontend = "auto",
    as_json: options.Json = False,
) -> None:
    """Say which group a parameter is in, along which axes, or why it cannot be pruned and what would help."""
    loaded = models.load(model, shapes=input_shape, arguments=arg)
    known = [name for name, _ in loaded.module.named_parameters()] + [name for name, _ in loaded.module.named_buffers()]
    if parameter not in known:
        hint = did_you_mean(parameter, known) or f"; the first are {', '.join(known[:3])}"
        raise ConfigError(f"{loaded.name} has no parameter {parameter!r}{hint}")
    program = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
    text = program.explain(parameter)
    memberships = [
        {
            "group": group.name,
            "prunable": group.prunable,
            "reason": group.reason,
            "dim": member.dim,
            "role": member.role,
        }
        for group in program.groups
        for member in group.members
        if member.name == parameter
    ]
    data = {"model": loaded.name, "parameter": parameter, "groups": memberships, "explanation": text}
    output.emit(data, text, as_json=as_json)
