"""Where in the user's own code something happened."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from types import FrameType

import torch

import atofx.ops

_ATOFX = Path(atofx.ops.__file__ or "").resolve().parents[1]
_FOLDERS = (Path(torch.__file__ or "").resolve().parent, _ATOFX, Path(__file__).resolve().parent)
_NOT_THE_USERS = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)
_MODELS = f"{_ATOFX / 'zoo'}{os.sep}"  # plain PyTorch like a user's own
_TRACE, _ROOT = str(Path(__file__).resolve().with_name("trace.py")), "_captured"
_ENTRY = re.compile(r'^\s*File "(.+)", line (\d+)', re.MULTILINE)


@lru_cache(maxsize=4096)
def is_ours(filename: str) -> bool:
    """Whether a file belongs to torch or to atofx."""
    if filename.startswith("<"):
        return True
    path = filename if filename.startswith(_NOT_THE_USERS) else os.path.realpath(filename)
    return path.startswith(_NOT_THE_USERS) and not path.startswith(_MODELS)


def place() -> str:
    """`` (file:line: code)`` of the innermost frame of the model's code on the present stack."""
    return quoted(Whereabouts().now())


def quoted(found: tuple[str, int] | None) -> str:
    """`` (file:line: code)`` of a line, empty for None."""
    return "" if found is None else f" ({found[0]}:{found[1]}: {linecache.getline(*found).strip()})"


def format_stack(stack: traceback.StackSummary) -> str:
    """`` (file:line: code)`` of the innermost frame of the user's code, empty if there is none."""
    for frame in reversed(stack):
        if not is_ours(frame.filename):
            return f" ({frame.filename}:{frame.lineno}: {frame.line})"
    return ""


class Whereabouts:
    """Which line of the model's code makes a node; remembers which files are the user's."""

    def __init__(self) -> None:
        self._foreign: dict[str, bool] = {}

    def now(self, depth: int = 1) -> tuple[str, int] | None:
        """File and line of the innermost frame of the model's code; None if only torch's leads to here.

        Args:
            depth: how many frames from here the first is that may be the model's.
        """
        frame: FrameType | None = sys._getframe(depth)
        known = self._foreign.get
        while frame is not None:
            name = frame.f_code.co_filename
            foreign = known(name)
            if self._is_foreign(name) if foreign is None else foreign:
                return name, frame.f_lineno
            if frame.f_code.co_name == _ROOT and str(Path(name).resolve()) == _TRACE:
                return None  # outside of it is the code that asks for the trace
            frame = frame.f_back
        return None

    def last(self, stack_trace: str | None) -> tuple[str, int] | None:
        """The same of a stack as torch.export hands it on: the text of a Python traceback."""
        for name, line in reversed(_ENTRY.findall(stack_trace or "")):
            if self._is_foreign(name) and not name.startswith("torch/"):  # what torch itself noted down
                return name, int(line)
        return None

    def _is_foreign(self, name: str) -> bool:
        if name not in self._foreign:
            self._foreign[name] = not is_ours(name)
        return self._foreign[name]
