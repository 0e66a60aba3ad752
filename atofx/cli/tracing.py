"""The program of a model, from the options that all subcommands share."""

from __future__ import annotations

from collections.abc import Sequence

import atofx
from atofx.cli.limits import granularity_from
from atofx.cli.models import Loaded
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
    return atofx.trace(
        loaded.module,
        loaded.inputs,
        frontend=frontend,
        strict=strict,
        freeze=freeze or (),
        only=only,
        granularity=granularity_from(granularity),
    )
