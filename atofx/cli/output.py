"""What a subcommand prints: text for people, or one JSON object for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer


def emit(data: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print ``data`` as JSON if asked for, else ``text``."""
    typer.echo(json.dumps(data, indent=2) if as_json else text)


def warn(message: str) -> None:
    """One line on stderr; stdout stays clean for machines."""
    typer.echo(f"atofx: {message}", err=True)
