"""``--set KEY=VALUE``: one option of a training configuration, nested ones with dots."""

from __future__ import annotations

from typing import Any

import yaml

from atofx.errors import ConfigError


def parse(text: str) -> Any:
    """The YAML value a text spells: ``"0.1"`` a number, ``"null"`` none, ``"[a, b]"`` a list."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def assign(overrides: dict[str, Any], assignment: str) -> None:
    """Enter ``"ato.every=10"`` into nested mappings.

    Raises:
        ConfigError: not of the form KEY=VALUE.
    """
    path, equals, value = assignment.partition("=")
    *parents, key = path.split(".")
    if not equals or not key:
        raise ConfigError(f"--set {assignment!r} is not KEY=VALUE, such as ato.every=10")
    level = overrides
    for parent in parents:
        level = level.setdefault(parent, {})
        if not isinstance(level, dict):
            raise ConfigError(f"--set {assignment!r}: {parent} is one value, it has no options of its own")
    level[key] = parse(value)
