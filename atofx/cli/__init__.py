"""The command line. :func:`main` is the entry point ``atofx``; nothing imports this package."""

from __future__ import annotations

import sys

# Import names of what the [train] extra installs and the command line stands on.
_EXTRA = frozenset(
    {"accelerate", "typer", "rich", "pydantic", "yaml", "sklearn", "matplotlib", "tensorboard", "click", "shellingham"}
)


def main() -> None:
    """Run the command line; without the ``[train]`` extra, say how to get it and leave with exit code 2."""
    try:
        from atofx.cli.app import app
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _EXTRA:
            raise
        sys.stderr.write(
            f"atofx: the command line needs the [train] extra ({library} is not installed): "
            'pip install "atofx[train]"\n'
        )
        raise SystemExit(2) from None
    app()
