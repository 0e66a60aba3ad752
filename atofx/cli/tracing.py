"""The program of a model, from the options that all subcommands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import atofx
from atofx.cli.limits import granularity_from
from atofx.cli.models import Loaded
from atofx.cli.recorded import recorded
from atofx.errors import ExampleInputError
from atofx.passes.trace import Frontend
from atofx.program import Program


def traced(
    loaded: Loaded,
    *,
    frontend: Frontend,
    freeze: Sequence[str] | None,
    only: Sequence[str] | None,
    granularity: Sequence[str] | None,
    strict: bool = False,
) -> Program:
    """The trace of a model under ``--frontend``, ``--freeze``, ``--only``, ``--granularity`` and ``--strict``.

    Raises:
        AtofxError: what :func:`atofx.trace` raises.
    """
    try:
        return atofx.trace(
            loaded.module,
            loaded.inputs,
            frontend=frontend,
            strict=strict,
            freeze=freeze or (),
            only=only,
            granularity=granularity_from(granularity),
        )
    except ExampleInputError as error:
        raise ExampleInputError(f"{error}\nGive a shape that the model takes with --input-shape") from error


def traced_for(
    mask: Path,
    loaded: Loaded,
    *,
    frontend: Frontend,
    freeze: Sequence[str] | None,
    only: Sequence[str] | None,
    granularity: Sequence[str] | None,
) -> tuple[Program, Program]:
    """The trace of a model, and the program that a mask file is of: without the blocks that its run left out, if any.

    Unless one of them is given, ``--freeze``, ``--only`` and ``--granularity`` are those of that run.

    Raises:
        AtofxError: what :func:`atofx.trace` raises.
        FileError: the result of the run beside the mask cannot be read.
        ConfigError: the model has no such blocks.
    """
    found = recorded(mask)
    if freeze is None and only is None and granularity is None:
        freeze, only, granularity = found.freeze, found.only, found.granularity
    whole = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
    return whole, whole.without_blocks(found.without) if found.without else whole
