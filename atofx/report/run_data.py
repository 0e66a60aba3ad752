"""The folder of a run -> everything the report of it shows, as JSON types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

import atofx
from atofx.errors import FileError

#: What a report needs of a run folder.
CONFIG, METRICS, MASK, RESULT = "config.yaml", "metrics.jsonl", "mask.json", "result.json"
_NEEDED = (
    "dense_top1", "masked_top1", "compact_top1", "flops_dense", "flops_compact", "params_dense", "params_compact",
    "latency_dense_ms", "latency_compact_ms", "latency_batch", "speedup", "agreement", "flops_target",
)  # fmt: skip
_CURVES = ("loss", "accuracy", "top1", "masked_top1", "flops", "lr")


def run_data(folder: Path) -> dict[str, Any]:
    """The figures of one finished run. FLOPs are fused multiply-adds counted once, of one image.

    Returns:
        ``result`` (as in result.json), ``config`` (the text of the file), ``epochs`` (curves; ``top1`` is of the plain
        network, ``masked_top1`` of the one with dropped units at zero), ``groups`` (units before and after), ``masks``
        (epochs, and the kept share of every group at the end of each).

    Raises:
        FileError: the folder holds no finished run, or a file in it cannot be read.
    """
    if not (folder / CONFIG).is_file():
        raise FileError(f"{str(folder)!r} is no folder of a run: it has no {CONFIG}; `atofx train --out` makes one")
    if not (folder / RESULT).is_file():
        raise FileError(
            f"the run in {str(folder)!r} is not finished: it has no {RESULT}; "
            "`atofx train --out … --resume` with the options of the run goes on with it"
        )
    result = _json(folder / RESULT, _text(folder / RESULT))
    missing = [name for name in _NEEDED if name not in result]
    if missing:
        raise FileError(f"{str(folder / RESULT)!r} is no result of `atofx train`: it lacks {', '.join(missing)}")
    text = _text(folder / CONFIG)
    config = _parsed(folder / CONFIG, text)
    records = _records(folder / METRICS)
    epochs = [record for record in records if record.get("kind") == "epoch"]
    masks = [record for record in records if record.get("kind") == "mask"]
    groups = _groups(folder / MASK)
    return {
        "name": folder.resolve().name,
        "version": atofx.__version__,
        "method": config.get("method"),
        "model": config.get("model"),
        "data": config.get("data"),
        "seed": config.get("seed"),
        "config": text,
        "result": result,
        "epochs": [
            {"epoch": record["epoch"], **{name: record[name] for name in _CURVES if name in record}}
            for record in epochs
        ],
        "groups": groups,
        "masks": {
            "epochs": [record["epoch"] for record in masks],
            "kept": [[record["kept"][group["name"]] / group["units"] for group in groups] for record in masks],
        },
    }


def _groups(file: Path) -> list[dict[str, Any]]:
    groups = _json(file, _text(file)).get("groups", {})
    return [
        {"name": name, "units": group["size"], "kept": group["size"] - len(group["dropped"])}
        for name, group in groups.items()
    ]


def _records(file: Path) -> list[dict[str, Any]]:
    return [_json(file, line) for line in _text(file).splitlines()]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {str(file)!r}: {error}") from error


def _json(file: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FileError(f"{str(file)!r} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{str(file)!r} is damaged: it holds no JSON object")
    return found


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileError(f"{str(file)!r} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{str(file)!r} is damaged: it holds no options")
    return found
