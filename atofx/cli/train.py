"""``atofx train``: one option for every field of :class:`atofx.train.config.TrainConfig`, and nothing of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atofx.cli.assignments import assign, parse
from atofx.train import run as train
from atofx.train.config import TrainConfig
from atofx.train.recipes import load_config, recipe_names


def run(config: str | None, print_config: bool, assignments: list[str] | None, **fields: Any) -> None:
    """Train a network and shrink it at once; with no options: ATO on scikit-learn's digits, half of the FLOPs.

    Values come from the recipe or file of --config, then from the options. To use several processes:
    `accelerate launch -m atofx train ...`.
    """
    chosen = config_from(config, assignments, fields)
    if print_config:
        typer.echo(chosen.to_yaml(), nl=False)
        return
    train(chosen)


def config_from(config: str | None, assignments: list[str] | None, fields: Mapping[str, Any]) -> TrainConfig:
    """The configuration that the options of :func:`config_options` give.

    Raises:
        ConfigError: an unknown recipe, file or key, or a value out of range.
    """
    overrides = {name: _value(name, text) for name, text in fields.items() if text is not None}
    for assignment in assignments or ():
        assign(overrides, assignment)
    return load_config(config, overrides)


def _value(name: str, given: Any) -> Any:
    """What an option means: text stays text for a field of text, else it is read as YAML; flags are values already."""
    kinds = _plain(TrainConfig.model_fields[name].annotation)
    is_text = str in kinds and int not in kinds
    return given if is_text or not isinstance(given, str) else parse(given)


def config_options(leave_out: frozenset[str] = frozenset()) -> list[inspect.Parameter]:
    """Options for a recipe or file, for nested fields, and for every plain field of the configuration but some."""
    recipes = ", ".join(recipe_names())
    fields = TrainConfig.model_fields.items()
    return [
        _option("config", str | None, f"A recipe ({recipes}) or the path of a YAML file.", "NAME|PATH"),
        _option("assignments", list[str] | None, "Set a nested option: ato.every=10.", "KEY=VALUE", flag="--set"),
        *(_field_option(name, field) for name, field in fields if not _is_nested(field) and name not in leave_out),
    ]


def _options() -> list[inspect.Parameter]:
    shown = "Print the configuration that would be used and stop."
    first, *others = config_options()
    return [first, _option("print_config", bool, shown, default=False, flag="--print-config"), *others]


def _field_option(name: str, field: FieldInfo) -> inspect.Parameter:
    if field.annotation is bool:
        both = f"--{name.replace('_', '-')}/--no-{name.replace('_', '-')}"
        return _option(name, bool | None, _help(field), flag=both)
    return _option(name, str | None, _help(field), _metavar(field))


def _help(field: FieldInfo) -> str:
    default = "" if field.default is None else f" [default: {json.dumps(field.default)}]"
    return f"{field.description}{default}".replace('"', "")


def _option(
    name: str, kind: Any, text: str, metavar: str | None = None, *, default: Any = None, flag: str | None = None
) -> inspect.Parameter:
    names = (flag,) if flag else ()
    option = typer.Option(*names, help=text, metavar=metavar, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _is_nested(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _metavar(field: FieldInfo) -> str:
    kinds = _plain(field.annotation)
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        return "|".join(choices)
    if any(get_origin(kind) is dict for kind in kinds):
        return "MAPPING"
    names = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
    return "|".join(names[kind] for kind in kinds if kind in names) or "LIST"


def _plain(annotation: Any) -> list[Any]:
    """The types in a union or ``Annotated``, None aside."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin is Union or type(annotation).__name__ == "UnionType":
        return [kind for part in get_args(annotation) if part is not type(None) for kind in _plain(part)]
    return [annotation]


vars(run)["__signature__"] = inspect.Signature(_options())
run.__annotations__ = {option.name: option.annotation for option in _options()}
