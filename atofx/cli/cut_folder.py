"""The folder that a cut leaves: mask, compact weights, figures. Shared by `prune` and `compact`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import atofx
from atofx.errors import ConfigError, FileError
from atofx.ir.files import check_writable, write_whole
from atofx.ir.mask import Mask
from atofx.program import Program

MASK, WEIGHTS, RESULT = "mask.json", "model.safetensors", "result.json"
RUN = "config.yaml"  # what a folder of `atofx train` holds and a cut does not


def check_cut_folder(out: Path) -> None:
    """Refuse a folder that a cut may not use, before any work is done.

    Raises:
        ConfigError: it holds a run of `atofx train`, whose mask and result would be replaced.
        FileError: it cannot be made or written into.
    """
    check_writable(out)
    if (out / RUN).exists():
        raise ConfigError(f"{str(out)!r} holds a run of `atofx train`; choose another folder with --out")


def mask_file(path: Path | None) -> Path | None:
    """The mask itself where the folder of a cut or a run was given."""
    return path / MASK if path is not None and path.is_dir() else path


def save_cut(program: Program, mask: Mask, out: Path) -> None:
    """Write mask and compact weights; the folder is made if missing, and the figures of an earlier cut go.

    Raises:
        FileError: it cannot be made, or a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(out)!r} (--out): {error}") from error
    (out / RESULT).unlink(missing_ok=True)  # it says what another mask keeps
    mask.save(out / MASK)
    atofx.save(program, mask, out / WEIGHTS)


def save_result(result: Mapping[str, Any], out: Path) -> None:
    """Write the figures."""
    write_whole(out / RESULT, (json.dumps(result, indent=2) + "\n").encode())


def measure(program: Program, mask: Mask) -> dict[str, Any]:
    """Units, FLOPs (multiply-adds counted once) and parameters before and after, and the verification."""
    report = program.verify(mask)
    return {
        "units": sum(vector.numel() for vector in mask.values()),
        "units_kept": sum(mask.kept.values()),
        "flops_dense": int(program.flops()),
        "flops_compact": report.flops_counted,
        "params_dense": int(program.params()),
        "params_compact": report.params_counted,
        "error": report.error,
        "ok": report.ok,
    }
