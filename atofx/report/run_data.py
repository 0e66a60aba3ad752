"""The folder of a run -> everything the report of it shows, as JSON types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

import atofx
from atofx.errors import FileError
from atofx.report.run_files import Config, Epoch, Masked, MaskFile, Result

#: What a report needs of a run folder.
CONFIG, METRICS, MASK, RESULT = "config.yaml", "metrics.jsonl", "mask.json", "result.json"

_KINDS = ("dense", "masked", "compact")

Read = TypeVar("Read", bound=BaseModel)


def run_data(folder: Path) -> dict[str, Any]:
    """The figures of one finished run. FLOPs are fused multiply-adds counted once, of one image.

    Returns:
        ``result`` (as in result.json), ``config`` (the text of the file), ``epochs`` (curves; ``NAME`` of a score is
        of the plain network, ``masked_NAME`` of the one with dropped units at zero), ``groups`` (units before and
        after), ``masks`` (epochs, and the kept share of every group at the end of each).

    Raises:
        FileError: the folder holds no finished run, or a file in it is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise FileError(f"{str(folder)!r} is no folder of a run: it has no {CONFIG}; `atofx train --out` makes one")
    if not (folder / RESULT).is_file():
        raise FileError(
            f"the run in {str(folder)!r} is not finished: it has no {RESULT}; `atofx train --out … --resume` with the "
            "options of the run goes on with it (a dense baseline is shown in the report of its run)"
        )
    text = _text(folder / CONFIG)
    config = _read(Config, folder / CONFIG, _yaml(folder / CONFIG, text))
    result = _with_scores(_json(folder / RESULT, _text(folder / RESULT)))
    _read(Result, folder / RESULT, result)
    mask = _read(MaskFile, folder / MASK, _json(folder / MASK, _text(folder / MASK)))
    records = [_json(folder / METRICS, line) for line in _text(folder / METRICS).splitlines() if line.strip()]
    epochs = [_read(Epoch, folder / METRICS, record) for record in records if record.get("kind") == "epoch"]
    masks = [_read(Masked, folder / METRICS, record) for record in records if record.get("kind") == "mask"]
    return {
        "name": folder.resolve().name,
        "version": atofx.__version__,
        **config.model_dump(),
        "config": text,
        "result": result,
        "epochs": [epoch.model_dump(exclude_unset=True) for epoch in epochs],
        "groups": [
            {"name": name, "units": group.size, "kept": group.size - len(group.dropped)}
            for name, group in mask.groups.items()
        ],
        "masks": {
            "epochs": [record.epoch for record in masks],
            "kept": [_shares(folder / METRICS, record, list(mask.groups)) for record in masks],
        },
    }


def _with_scores(result: dict[str, Any]) -> dict[str, Any]:
    """What runs wrote before there were tasks other than images had top-1 alone."""
    if "scores" in result or "compact_top1" not in result:
        return result
    score = {"name": "top1", "title": "top-1", **{kind: result.get(f"{kind}_top1") for kind in _KINDS}}
    words = {"sample": "image", "samples": "images", "tested": "test images", "answer": "class"}
    return {**result, "scores": [score], "words": words}


def _shares(file: Path, record: Masked, groups: list[str]) -> list[float]:
    if missing := [name for name in groups if name not in record.kept or name not in record.units]:
        raise FileError(f"{str(file)!r} is damaged: the mask of epoch {record.epoch} has no group {missing[0]!r}")
    return [record.kept[name] / record.units[name] for name in groups]


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


def _yaml(file: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileError(f"{str(file)!r} is damaged: {error}") from error


def _read(kind: type[Read], file: Path, found: Any) -> Read:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise FileError(f"{str(file)!r} is damaged, or none of `atofx train`: {where}: {first['msg']}") from error
