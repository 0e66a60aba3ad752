"""Files that are written at once or not at all, and folders that must take them."""

from __future__ import annotations

import os
from pathlib import Path

from atofx.errors import FileError

_EFFECTIVE = os.access in os.supports_effective_ids


def write_whole(file: Path, content: bytes) -> Path:
    """Write a file beside its place and move it there.

    Raises:
        FileError: it cannot be written; what was there before still is.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        raise FileError(f"cannot write {str(file)!r}: {error.strerror or error}") from error
    return file


def check_writable(folder: Path) -> None:
    """Refuse a folder that could not be made or written into, before any work is done for it.

    Raises:
        FileError: it is a file, or the rights are missing.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        problem = None if there.is_dir() else f"{str(there)!r} is a file"
        if problem is None and not os.access(there, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
            problem = f"no permission to write into {str(there)!r}"
    except OSError as error:
        problem = str(error)
    if problem is not None:
        raise FileError(f"cannot make the folder {str(folder)!r} (--out): {problem}")
