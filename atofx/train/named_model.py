"""What the name of a model means: where it is found, and what builds it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from atofx import zoo
from atofx.errors import ConfigError, did_you_mean
from atofx.ir.copies import deepcopy
from atofx.train import torchvision_models
from atofx.train.searched_file import SEARCHED, read_searched

#: Names of the places, as `origin` says them.
ZOO: Final = "atofx.zoo"
TORCHVISION: Final = "torchvision"
#: Longest side of images, in pixels, that the zoo's networks are for.
SMALL_IMAGE = 64
#: What may stand before the colon for these two places.
_PLACES: Mapping[str, str] = {"zoo": ZOO, ZOO: ZOO, "torchvision": TORCHVISION, "torchvision.models": TORCHVISION}
_SMALL_INPUT = (1, 3, 32, 32)

Place = Literal["atofx.zoo", "torchvision"]


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model that a name means.

    Attributes:
        name: as the user wrote it.
        origin: where it was found: ``atofx.zoo``, ``torchvision``, the module of a factory, or a file.
        factory: makes the model with random weights from keyword arguments.
        shape: of an example input, None where only the user knows it.
    """

    name: str
    origin: str
    factory: Callable[..., Any]
    shape: tuple[int, ...] | None = None

    def build(self, arguments: Mapping[str, Any]) -> Any:
        """What the factory gives for keyword arguments: a model, or a model and example inputs.

        Raises:
            ConfigError: the factory does not take these arguments.
        """
        try:
            inspect.signature(self.factory).bind(**arguments)
        except TypeError as error:
            raise ConfigError(
                f"cannot build {self.name}: {error}; arguments of its factory are given as --arg KEY=VALUE, or in "
                "`atofx train` as --set model_args.KEY=VALUE"
            ) from error
        if is_factory(self.name):
            return self.factory(**arguments)  # what goes wrong in the user's code keeps its traceback
        try:
            return self.factory(**arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise ConfigError(f"cannot build {self.name} with {given or 'no arguments'}: {error}") from error

    def module(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The model alone.

        Raises:
            ConfigError: the factory does not take these arguments, or what it gives is no model.
        """
        return only_module(self.build(arguments), self.name)

    def accepted(self, **offered: Any) -> dict[str, Any]:
        """Those of the arguments that the factory takes."""
        parameters = inspect.signature(self.factory).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return offered
        taken = {parameter.name for parameter in parameters}
        return {key: value for key, value in offered.items() if key in taken}

    def pretrained(self) -> NamedModel:
        """The same with torchvision's own weights.

        Raises:
            ConfigError: nobody publishes weights for it there.
        """
        if self.origin == ZOO:
            raise ConfigError(f"the zoo has no pretrained weights for {self.name}; train it with `atofx train`")
        if self.origin != TORCHVISION:
            raise ConfigError(f"`--weights pretrained` is for torchvision's models, not for {self.name}")
        factory = torchvision_models.pretrained_factory(_attribute(self.name))
        return NamedModel(self.name, self.origin, factory, self.shape)


def only_module(built: Any, name: str) -> nn.Module:
    """The model of what a factory gave: a model, or a tuple that begins with one.

    Raises:
        ConfigError: it is neither.
    """
    module = built[0] if isinstance(built, tuple) and built else built
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{name} gave {type(module).__name__}, not a torch.nn.Module; a factory returns the model")
    return module


def find_model(name: str, first: Place = ZOO) -> NamedModel:
    """Find the model that a name means.

    Names are ``NAME`` (of our zoo or torchvision), ``zoo:NAME``, ``torchvision:NAME``, ``package.module:factory`` and
    ``tas:FILE`` (a searched ResNet, :mod:`atofx.train.searched_file`).

    Args:
        name: of the model.
        first: whose model a name is that both have (resnet18, vgg16_bn).

    Raises:
        ConfigError: there is no such model (with the nearest name), or the file describes none.
    """
    place, colon, attribute = name.partition(":")
    if colon and place == SEARCHED:
        return NamedModel(name, attribute, read_searched(attribute).build, _SMALL_INPUT)
    if is_factory(name):
        return NamedModel(name, place, _import(place, attribute, name))
    plain = _attribute(name)
    places = (_PLACES[place],) if colon else (first, *({ZOO, TORCHVISION} - {first}))
    for where in places:
        if where == ZOO and plain in zoo.names():
            return NamedModel(name, ZOO, partial(zoo.build, plain), _SMALL_INPUT)
        if where == TORCHVISION and plain in torchvision_models.names():
            return NamedModel(
                name, TORCHVISION, torchvision_models.factory(plain), torchvision_models.input_shape(plain)
            )
    known = [n for where in places for n in (zoo.names() if where == ZOO else torchvision_models.names())]
    hint = did_you_mean(plain, known, f" (the zoo has {', '.join(zoo.names())})")
    raise ConfigError(
        f"no model {plain!r} in {' or '.join(sorted(places))}{hint}; your own model is package.module:factory"
    )


def is_factory(name: str) -> bool:
    """Whether the name is ``package.module:factory``: code that may load trained weights by itself."""
    place, colon, _ = name.partition(":")
    return bool(colon) and place != SEARCHED and place not in _PLACES


def is_shared(name: str) -> bool:
    """Whether the name, without a place before it, is one of the zoo and one of torchvision."""
    return name in zoo.names() and name in torchvision_models.names()


def _attribute(name: str) -> str:
    return name.rpartition(":")[2]


def _import(place: str, attribute: str, name: str) -> Callable[..., Any]:
    here = os.fspath(Path.cwd())
    if here not in sys.path:  # the installed command does not have the working folder there, `python -m atofx` does
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(place)
    except ImportError as error:
        missing = error.name or ""
        if isinstance(error, ModuleNotFoundError) and (place == missing or place.startswith(f"{missing}.")):
            raise ConfigError(f"no module {place!r} for {name}; looked in {here} and the installed packages") from error
        raise ConfigError(f"cannot import {place} for {name}: {error}") from error
    factory = getattr(module, attribute, None)
    if isinstance(factory, nn.Module):
        return lambda: deepcopy(factory)
    if factory is None:
        raise ConfigError(f"{place} has no factory {attribute!r}{did_you_mean(attribute, vars(module))}")
    if not callable(factory):
        raise ConfigError(f"{name}: {attribute} is a {type(factory).__name__}, not a function or class")
    return factory  # type: ignore[no-any-return]
