"""The configurations that ship with the package, by name, and any other by its path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from atofx.errors import ConfigError, did_you_mean
from atofx.train.config import TrainConfig, merged, read_yaml
from atofx.train.run_folder import RunFolder

_DIGITS = "digits"
#: What each task trains where nothing else is asked for.
_DEFAULTS: Mapping[str, str] = MappingProxyType({"classification": _DIGITS, "squad": "squad"})


def recipe_names() -> tuple[str, ...]:
    """The names of the shipped recipes."""
    folder = files("atofx.train") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_config(source: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration of a recipe's name or a YAML file's path (None: the task's own), with ``overrides`` on top.

    An override of ``flops`` displaces the recipe's ``p`` and the other way round; nested mappings merge. Without a
    source, overrides that resume a run start from the configuration in its folder.

    Raises:
        ConfigError: no such recipe or file, an unknown key, or a value out of range.
    """
    overrides = overrides or {}
    if source is None and overrides.get("resume") and overrides.get("out"):
        before = RunFolder(Path(str(overrides["out"])).expanduser()).config
        source = before if before.exists() else None
    name = _DEFAULTS.get(str(overrides.get("task")), _DIGITS) if source is None else str(source)
    if name in recipe_names():
        with as_file(files("atofx.train") / "recipes" / f"{name}.yaml") as path:
            values = read_yaml(path)
    elif Path(name).suffix in {".yaml", ".yml"} or Path(name).exists():
        values = read_yaml(name)
    else:
        known = f" (known: {', '.join(recipe_names())}, or the path of a .yaml file)"
        raise ConfigError(f"no recipe {name!r}{did_you_mean(name, recipe_names(), known)}")
    return TrainConfig.parse(merged(values, overrides))
