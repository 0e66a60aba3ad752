"""Where in the user's own code something happened."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import torch

import atofx.ops

_PACKAGES = (torch.__file__, atofx.ops.__file__, __file__)
_NOT_THE_USERS = tuple(str(Path(file or "").resolve().parent) + os.sep for file in _PACKAGES)
_PROGRAM = str(Path(atofx.ops.__file__ or "").resolve().parents[1] / "program.py")


def is_ours(filename: str) -> bool:
    """Whether a file belongs to torch or to atofx."""
    path = str(Path(filename).resolve())
    return path.startswith(_NOT_THE_USERS) or path == _PROGRAM or filename.startswith("<")


def place() -> str:
    """`` (file:line: code)`` of the innermost frame of the user's code on the present stack."""
    return format_stack(traceback.extract_stack())


def format_stack(stack: traceback.StackSummary) -> str:
    """`` (file:line: code)`` of the innermost frame of the user's code, empty if there is none."""
    for frame in reversed(stack):
        if not is_ours(frame.filename):
            return f" ({frame.filename}:{frame.lineno}: {frame.line})"
    return ""
