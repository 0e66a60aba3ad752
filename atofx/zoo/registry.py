"""The zoo by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from torch import nn

from atofx.zoo.mobilenetv2 import mobilenetv2
from atofx.zoo.resnet import resnet20, resnet32, resnet56, resnet110
from atofx.zoo.vgg import vgg16_bn
from atofx.zoo.wide_resnet import resnet18


class Factory(Protocol):
    """Builds one model, randomly initialised."""

    def __call__(self, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
        """The model for images of ``in_channels`` channels and ``num_classes`` classes."""
        ...


_FACTORIES: Mapping[str, Factory] = MappingProxyType(
    {
        "resnet18": resnet18,
        "resnet20": resnet20,
        "resnet32": resnet32,
        "resnet56": resnet56,
        "resnet110": resnet110,
        "vgg16_bn": vgg16_bn,
        "mobilenetv2": mobilenetv2,
    }
)


def names() -> tuple[str, ...]:
    """The names :func:`build` knows."""
    return tuple(_FACTORIES)


def build(name: str, *, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The named network with random weights.

    Raises:
        KeyError: no network of that name; the message offers the nearest.
    """
    if name not in _FACTORIES:
        near = difflib.get_close_matches(name, _FACTORIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_FACTORIES)}"
        raise KeyError(f"no network {name!r} in the zoo{hint}")
    return _FACTORIES[name](num_classes=num_classes, in_channels=in_channels)
