"""Turns pydantic's findings into sentences that name the key, the value and the remedy."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from atofx.errors import did_you_mean


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """One line per finding; unknown keys come with the nearest valid one."""
    lines = []
    for finding in error.errors():
        path = tuple(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            lines.append(_unknown(path, schema))
            continue
        message = finding["msg"].removeprefix("Value error, ")
        if not path:
            lines.append(message)
            continue
        message = message.removeprefix("Input ")
        note = _description(path, schema)
        lines.append(f"{'.'.join(path)} {message}, not {finding['input']!r}" + (f" ({note})" if note else ""))
    return "\n".join(lines)


def _unknown(path: tuple[str, ...], schema: type[BaseModel]) -> str:
    *parents, key = path
    level = _level(parents, schema)
    where = f" in {'.'.join(parents)!r}" if parents else ""
    hint = did_you_mean(key, level.model_fields, f" (known keys: {', '.join(level.model_fields)})")
    return f"unknown key {key!r}{where}{hint}"


def _level(parents: list[str], schema: type[BaseModel]) -> type[BaseModel]:
    for name in parents:
        annotation = schema.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            schema = annotation
    return schema


def _description(path: tuple[str, ...], schema: type[BaseModel]) -> str | None:
    level = schema
    for name in path:
        field = level.model_fields.get(name)
        if field is None:
            return None
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return " ".join((field.description or "").split()).removesuffix(".")
        level = field.annotation
    return None
