"""The folder that a cut leaves: mask, compact weights, figures. Shared by `prune` and `compact`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import atofx
from atofx.errors import FileError
from atofx.ir.mask import Mask
from atofx.program import Program

MASK, WEIGHTS, RESULT = "mask.json", "model.safetensors", "result.json"


def save_cut(program: Program, mask: Mask, out: Path) -> None:
    """Write mask and compact weights; the folder is made if missing.

    Raises:
        FileError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(out)!r} (--out): {error}") from error
    mask.save(out / MASK)
    atofx.save(program, mask, out / WEIGHTS)


def save_result(result: Mapping[str, Any], out: Path) -> None:
    """Write the figures."""
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


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
