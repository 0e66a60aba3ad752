"""What the task needs besides the ``[train]`` extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atofx.errors import ConfigError

_LIBRARIES = frozenset({"transformers", "tokenizers"})  # import names of what the [squad] extra installs


@contextmanager
def squad_extra() -> Iterator[None]:
    """Around imports that need the ``[squad]`` extra.

    Raises:
        ConfigError: it is not installed; says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        raise ConfigError(
            f'BERT needs the [squad] extra ({library} is not installed): pip install "atofx[squad]"'
        ) from error
