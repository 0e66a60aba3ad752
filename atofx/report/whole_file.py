"""Files that are written at once or not at all."""

from __future__ import annotations

from pathlib import Path

from atofx.errors import FileError


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
