"""From a model's name to the model."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from atofx import zoo
from atofx.errors import ConfigError
from atofx.train.searched_file import SEARCHED, read_searched

_SMALL_IMAGE = 64
_TORCHVISION = "torchvision.models"


def resolve_model(name: str, num_classes: int, in_channels: int = 3, image_size: int | None = None) -> nn.Module:
    """The model that ``name`` means, with random weights.

    ``resnet20`` (our zoo), ``mobilenet_v2`` (a torchvision classifier), ``package.module:factory``, or ``tas:FILE``, a
    file that describes a searched ResNet (:mod:`atofx.train.searched_file`). Where zoo and
    torchvision share a name (resnet18, vgg16_bn) the zoo's is meant; for images larger than 64 pixels the choice has
    to be written out, ``atofx.zoo:resnet18`` or ``torchvision.models:resnet18``.

    A factory is called with those of ``num_classes`` and ``in_channels`` that its signature takes.

    Raises:
        ConfigError: no such model (with the nearest name), an ambiguous name, a file that describes none,
            or it cannot take ``in_channels``.
    """
    place, colon, attribute = name.partition(":")
    if place == SEARCHED and colon:
        return read_searched(attribute).build(num_classes, in_channels)
    if place == _TORCHVISION:
        return _from_torchvision(attribute, num_classes, in_channels)
    if colon:
        return _from_factory(place, attribute, num_classes, in_channels)
    if name not in zoo.names():
        return _from_torchvision(name, num_classes, in_channels)
    if image_size is not None and image_size > _SMALL_IMAGE and name in _torchvision_names():
        raise ConfigError(
            f"{name!r} is two networks: ours for small images and torchvision's for large ones; "
            f"for {image_size} pixels write {_TORCHVISION}:{name} (or atofx.zoo:{name})"
        )
    return zoo.build(name, num_classes=num_classes, in_channels=in_channels)


def model_names() -> tuple[str, ...]:
    """Every name of the zoo and of torchvision's classifiers."""
    return tuple(dict.fromkeys((*zoo.names(), *_torchvision_names())))


def _torchvision_names() -> tuple[str, ...]:
    from torchvision import models  # takes a second: only when it is needed

    return tuple(models.list_models(module=models))


def _from_torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    from torchvision import models

    if name not in _torchvision_names():
        raise _unknown(name, model_names())
    if in_channels != 3:
        raise ConfigError(
            f"torchvision's {name} takes images of 3 channels, the data has {in_channels}; "
            f"choose a network of the zoo ({', '.join(zoo.names())}) or a factory of your own"
        )
    # These two have training-only heads that return tuples; without them they are plain classifiers.
    plain: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    model = models.get_model(name, weights=None, num_classes=num_classes, **plain)
    assert isinstance(model, nn.Module)
    return model


def _unknown(name: str, known: tuple[str, ...]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"ours are {', '.join(zoo.names())}, others torchvision's."
    return ConfigError(f"no model {name!r}; {hint} Your own model is written package.module:factory.")


def _from_factory(module_name: str, attribute: str, num_classes: int, in_channels: int) -> nn.Module:
    spelled = f"{module_name}:{attribute}"
    with _working_folder_importable():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ConfigError(f"model {spelled!r}: cannot import {module_name!r}: {error}") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        near = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"model {spelled!r}: {module_name} has no {attribute!r}{hint}")
    if not callable(factory):
        raise ConfigError(f"model {spelled!r}: {attribute} is a {type(factory).__name__}, not a function or class")
    model = factory(**_accepted(factory, num_classes=num_classes, in_channels=in_channels))
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {spelled!r}: the factory returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def _accepted(factory: Callable[..., Any], **offered: int) -> dict[str, int]:
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return offered
    taken = {parameter.name for parameter in parameters}
    return {key: value for key, value in offered.items() if key in taken}


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """A console script does not search the working folder, where a user's own module is; for one import, do."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)
