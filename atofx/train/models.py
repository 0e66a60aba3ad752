"""The network of a training run, from its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from atofx import zoo
from atofx.errors import ConfigError, did_you_mean
from atofx.train import torchvision_models
from atofx.train.named_model import SMALL_IMAGE, TORCHVISION, NamedModel, find_model, is_shared

#: These two have training-only heads that return tuples; without them they are plain classifiers.
_PLAIN: Mapping[str, Mapping[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
_CHANNELS = 3  # of the images that torchvision's models take


def resolve_model(
    name: str,
    num_classes: int,
    in_channels: int = _CHANNELS,
    image_size: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network that ``name`` means (:func:`atofx.train.named_model.find_model`), with random weights.

    Where zoo and torchvision share a name (resnet18, vgg16_bn) the zoo's is meant; for images larger than 64 pixels the
    choice has to be written out, ``zoo:resnet18`` or ``torchvision:resnet18``.

    Its factory is called with those of ``num_classes`` and ``in_channels`` that its signature takes, and with
    ``arguments``.

    Raises:
        ConfigError: no such model (with the nearest name), an ambiguous name, a file that describes none, an argument
            that it does not take, or it cannot take ``in_channels``.
    """
    if image_size is not None and image_size > SMALL_IMAGE and is_shared(name):
        raise ConfigError(
            f"{name!r} is two networks: ours for small images and torchvision's for large ones; "
            f"for {image_size} pixels write torchvision:{name} (or zoo:{name})"
        )
    named = find_model(name)
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    if named.origin == TORCHVISION:
        offered = _of_torchvision(named, num_classes, in_channels)
    return named.module({**named.accepted(**offered), **(arguments or {})})


def model_names() -> tuple[str, ...]:
    """Every name of the zoo and of torchvision's classifiers."""
    return tuple(dict.fromkeys((*zoo.names(), *torchvision_models.classifiers())))


def _of_torchvision(named: NamedModel, num_classes: int, in_channels: int) -> dict[str, Any]:
    plain = named.name.rpartition(":")[2]
    if plain not in torchvision_models.classifiers():
        near = did_you_mean(plain, model_names())
        raise ConfigError(f"{plain} of torchvision does not score classes of images; take a classifier{near}")
    if in_channels != _CHANNELS:
        raise ConfigError(
            f"torchvision's {plain} takes images of {_CHANNELS} channels, the data has {in_channels}; "
            f"choose a network of the zoo ({', '.join(zoo.names())}) or a factory of your own"
        )
    return {"num_classes": num_classes, **_PLAIN.get(plain, {})}
