"""``Program.draw``: one call, the suffix says what is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from atofx.errors import ConfigError
from atofx.ir.files import write_whole
from atofx.program import Program
from atofx.report.dot import dot
from atofx.report.page_html import frame_html, page_html
from atofx.report.plot import plot

_SUFFIXES = (".html", ".svg", ".png", ".dot")


def draw(program: Program, path: str | os.PathLike[str]) -> Path:
    """Write the dependency graph of a program; see :meth:`atofx.Program.draw`.

    Raises:
        ConfigError: the suffix is not one of those that can be written.
        MissingError: what is needed for the suffix is not installed.
        FileError: the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(f"cannot draw to {os.fspath(path)!r}: the name must end in one of {', '.join(_SUFFIXES)}")
    return write_whole(target, _content(program, suffix))


def notebook(program: Program) -> str:
    """The page as a notebook shows it."""
    return frame_html(program)


def _content(program: Program, suffix: str) -> bytes:
    if suffix == ".html":
        return page_html(program).encode()
    if suffix == ".dot":
        return str(dot(program).source).encode()
    if shutil.which("dot") is None:
        return plot(program, suffix[1:])
    drawn: bytes = dot(program).pipe(format=suffix[1:])
    return drawn
