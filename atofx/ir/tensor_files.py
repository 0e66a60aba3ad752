"""Safetensors files that are written at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None) -> None:
    """Write a file beside its place, and move it there once it is on disk.

    A kill at any moment leaves the old file or the new one. The rights are those of the user's other new files.
    """
    partial = path.with_name(path.name + ".partial")
    partial.touch()
    mode = partial.stat().st_mode  # save_file makes it private
    save_file(dict(tensors), partial, metadata=None if metadata is None else dict(metadata))
    partial.chmod(mode)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)
