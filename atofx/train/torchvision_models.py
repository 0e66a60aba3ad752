"""Models of torchvision by name. Everything here takes the second that the import of torchvision does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any
from urllib.error import URLError

from atofx.errors import FileError


def names() -> tuple[str, ...]:
    """All models."""
    from torchvision import models

    return tuple(models.list_models())


def classifiers() -> tuple[str, ...]:
    """The models that score classes of images."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def factory(name: str) -> Callable[..., Any]:
    """Makes the model with random weights, those of its backbone too."""
    from torchvision import models

    fixed: dict[str, Any] = {"weights": None}
    if name in [*models.list_models(models.segmentation), *models.list_models(models.detection)]:
        fixed["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        fixed["init_weights"] = False  # their own initialisation takes half a minute
    return partial(models.get_model_builder(name), **fixed)


def pretrained_factory(name: str) -> Callable[..., Any]:
    """Makes the model with the newest published weights, which torchvision downloads.

    It raises `FileError` where they cannot be had.
    """
    from torchvision import models

    builder = models.get_model_builder(name)

    @wraps(builder)
    def build(**keywords: Any) -> Any:
        try:
            return builder(weights="DEFAULT", **keywords)
        except URLError as error:
            raise FileError(
                f"cannot download torchvision's weights of {name}: {error.reason}; give a .safetensors file with "
                "--weights, or try again with a network"
            ) from error

    return build


def input_shape(name: str) -> tuple[int, ...]:
    """Of one example: (1, 3, size, size), or (1, 3, frames, size, size)."""
    from torchvision import models

    if name in models.list_models(models.video):
        return (1, 3, 16, 112, 112)
    size = 299 if name == "inception_v3" else 224
    return (1, 3, size, size)
