"""From what stands on the command line to a model with example inputs."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atofx import zoo
from atofx.cli.nearest import did_you_mean
from atofx.errors import ConfigError, FileError
from atofx.train import checkpoint
from atofx.train.searched_file import SEARCHED, read_searched
from atofx.train.squad.extra import squad_extra

_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_TOKENS = 384  # of an example, as in `atofx train --task squad`
_LARGE = 64  # pixels: above, a name that zoo and torchvision share means torchvision's, as in `atofx train`


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model from the command line.

    Attributes:
        name: as the user wrote it.
        origin: where the name was found, such as ``"atofx.zoo"``.
        module: the model, in eval mode.
        inputs: example inputs, as :func:`atofx.trace` takes them.
        build: makes another model of the same kind (random weights), for :func:`atofx.load`.
        trained: whether weights were loaded.
    """

    name: str
    origin: str
    module: nn.Module
    inputs: Any
    build: Callable[[], nn.Module]
    trained: bool

    @property
    def title(self) -> str:
        """Name and origin in one line."""
        return f"{self.name} ({self.origin})"


def load(
    name: str,
    *,
    weights: str | None = None,
    shapes: Sequence[str] | None = None,
    arguments: Sequence[str] | None = None,
    seed: int = 0,
) -> Loaded:
    """Find ``name``: ``package.module:factory``, or in the zoo, or in torchvision (``zoo:NAME``, ``torchvision:NAME``).

    The folder of a Hugging Face BERT means its architecture; ``weights`` are given as for any model. ``tas:FILE`` is a
    file that describes a searched ResNet.

    Where both share a name, torchvision's is meant for images larger than 64 pixels and for pretrained weights.

    Args:
        name: the model.
        weights: a ``.safetensors`` file (state dict or checkpoint), or ``"pretrained"`` for torchvision's own weights.
        shapes: shapes of the example inputs, such as ``["1,3,32,32"]``; known models have a default.
        arguments: ``key=value`` arguments of the factory; values are JSON where they parse as JSON, else text.
        seed: of the initial weights and the example inputs.

    Raises:
        ConfigError: no such model, or it cannot be built from these arguments.
        FileError: the weights cannot be read or do not fit.
    """
    keywords = parse_arguments(arguments or ())
    pretrained = weights == "pretrained"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = [parse_shape(text) for text in shapes or ()]
        large = any(shape[-1] > _LARGE for shape in wanted)
        origin, build, default_shape = _find(name, keywords, pretrained=pretrained, large=large)
        built = build()
        module, inputs = built if isinstance(built, tuple) else (built, None)
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"{name} gave {type(module).__name__}, not a torch.nn.Module; a factory returns the model"
            )
        if wanted:
            dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
            tensors = tuple(torch.randn(shape, dtype=dtype) for shape in wanted)
            inputs = tensors[0] if len(tensors) == 1 else tensors
        elif inputs is None and default_shape is not None:
            inputs = torch.randn(default_shape)
        elif inputs is None:
            raise ConfigError(
                f"{name} needs the shape of its input: add `--input-shape 1,3,224,224`, "
                "or let the factory return (model, example_inputs)"
            )
    if weights is not None and not pretrained:
        load_weights(module, weights)
    return Loaded(name, origin, module.eval(), inputs, lambda: _model_only(build()), weights is not None)


def parse_shape(text: str) -> tuple[int, ...]:
    """``"1,3,224,224"`` or ``"1x3x224x224"`` as a tuple.

    Raises:
        ConfigError: not a list of positive integers.
    """
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ConfigError(f"--input-shape {text!r} is not a shape; write positive integers such as 1,3,224,224")
    return shape


def parse_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """``["num_classes=10", "depth=[2,2]"]`` as keyword arguments.

    Raises:
        ConfigError: an entry without ``=``.
    """
    keywords: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--arg {pair!r} is not KEY=VALUE, such as num_classes=10")
        try:
            keywords[key] = json.loads(value)
        except json.JSONDecodeError:
            keywords[key] = value
    return keywords


def load_weights(module: nn.Module, path: str) -> None:
    """Load a ``.safetensors`` file into the model, every key of it and no other.

    Raises:
        FileError: the file is missing, of another kind, truncated, or made for another model.
    """
    load_state(module, _read(path), f"the weights in {path}")


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Load a state dict, every key of it and no other; ``origin`` is its name in messages.

    Raises:
        FileError: a key is missing or unknown, or a shape differs.
    """
    problems = _misfits(module.state_dict(), state)
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise FileError(f"{origin} do not fit the model: {shown}")
    module.load_state_dict(state)


def _read(path: str) -> dict[str, torch.Tensor]:
    file = Path(path)
    if not file.is_file():
        raise FileError(f"no file {path!r} with weights (--weights)")
    if file.suffix in _PICKLES:
        raise FileError(
            f"{path} looks like a pickle, and opening one can run code; convert it once:\n"
            f"  state = torch.load({path!r}, weights_only=True)\n"
            f"  safetensors.torch.save_file(state, {str(file.with_suffix('.safetensors'))!r})"
        )
    return checkpoint.weights(file)


def _misfits(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    problems = [f"{key} is missing" for key in wanted if key not in given]
    problems += [f"{key} is unknown{did_you_mean(key, wanted)}" for key in given if key not in wanted]
    problems += [
        f"{key} is {tuple(given[key].shape)} in the file, {tuple(tensor.shape)} in the model"
        for key, tensor in wanted.items()
        if key in given and given[key].shape != tensor.shape
    ]
    return problems


def _find(
    name: str, keywords: Mapping[str, Any], *, pretrained: bool, large: bool
) -> tuple[str, Callable[[], Any], tuple[int, ...] | None]:
    """Origin, factory without arguments left, and default input shape."""
    if Path(name).expanduser().is_dir():
        if pretrained:
            raise ConfigError(
                f"`--weights pretrained` is for torchvision's models; give a .safetensors file for {name}"
            )
        return _from_folder(Path(name).expanduser(), keywords)
    place, colon, attribute = name.partition(":")
    if colon and place == SEARCHED:
        shape = read_searched(attribute)
        _check_arguments(shape.build, keywords, name)
        return attribute, lambda: shape.build(**keywords), (1, keywords.get("in_channels", 3), 32, 32)
    if colon and place not in ("zoo", "torchvision"):
        if pretrained:
            raise ConfigError(f"`--weights pretrained` is for torchvision's models, not for {name}")
        factory = _import(place, attribute, name)
        _check_arguments(factory, keywords, name)
        return place, lambda: factory(**keywords), None
    known = [] if place == "zoo" else _torchvision_names()
    plain = attribute or name
    in_zoo = plain in zoo.names() and place != "torchvision"
    if in_zoo and not ((large or pretrained) and plain in known):
        if pretrained:
            raise ConfigError(f"the zoo has no pretrained weights for {plain}; train it with `atofx train`")
        _check_arguments(zoo.build, {"name": plain, **keywords}, name)
        return "atofx.zoo", lambda: zoo.build(plain, **keywords), (1, keywords.get("in_channels", 3), 32, 32)
    if plain not in known:
        known += zoo.names() if place != "torchvision" else ()
        where = {"zoo": "atofx.zoo", "torchvision": "torchvision"}.get(place, "atofx.zoo or torchvision")
        raise ConfigError(
            f"no model {plain!r} in {where}{did_you_mean(plain, known)}; your own model is package.module:factory"
        )
    return _from_torchvision(plain, keywords, pretrained=pretrained)


def _torchvision_names() -> list[str]:
    from torchvision import models  # takes a second: only when it is needed

    return list(models.list_models())


def _from_torchvision(
    name: str, keywords: Mapping[str, Any], *, pretrained: bool
) -> tuple[str, Callable[[], Any], tuple[int, ...]]:
    from torchvision import models

    if name in models.list_models(models.video):
        shape: tuple[int, ...] = (1, 3, 16, 112, 112)
    else:
        size = 299 if name == "inception_v3" else 224
        shape = (1, 3, size, size)
    extra: dict[str, Any] = {"weights": "DEFAULT" if pretrained else None}
    backed = [*models.list_models(models.segmentation), *models.list_models(models.detection)]
    if not pretrained and name in backed:
        extra["weights_backbone"] = None
    if not pretrained and name in ("googlenet", "inception_v3"):
        extra["init_weights"] = False  # their own initialisation takes half a minute
    _check_arguments(models.get_model_builder(name), extra | dict(keywords), name)
    return "torchvision", lambda: models.get_model(name, **extra, **keywords), shape


def _from_folder(folder: Path, keywords: Mapping[str, Any]) -> tuple[str, Callable[[], Any], None]:
    with squad_extra():
        from atofx.train.squad import bert  # takes seconds: only when it is needed

    config = bert.of_folder(folder)

    def build(length: int = min(_TOKENS, config.max_position_embeddings)) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        return bert.untrained(config), bert.example_inputs(config.vocab_size, 1, length)

    _check_arguments(build, keywords, str(folder))
    return "BERT for question answering", lambda: build(**keywords), None


def _import(place: str, attribute: str, name: str) -> Callable[..., Any]:
    here = os.fspath(Path.cwd())
    if here not in sys.path:  # the installed command does not have the working folder there, `python -m atofx` does
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and not (place == error.name or place.startswith(error.name + ".")):
            raise ConfigError(f"cannot import {place} for {name}: {error}") from error
        raise ConfigError(f"no module {place!r} for {name}; looked in {here} and the installed packages") from error
    factory = getattr(module, attribute, None)
    if isinstance(factory, nn.Module):
        return lambda: factory
    if not callable(factory):
        raise ConfigError(f"{place} has no factory {attribute!r}{did_you_mean(attribute, vars(module))}")
    return factory  # type: ignore[no-any-return]


def _check_arguments(factory: Callable[..., Any], keywords: Mapping[str, Any], name: str) -> None:
    try:
        inspect.signature(factory).bind(**keywords)
    except TypeError as error:
        raise ConfigError(
            f"cannot build {name}: {error}; arguments of its factory are given as --arg KEY=VALUE"
        ) from error


def _model_only(built: Any) -> nn.Module:
    module = built[0] if isinstance(built, tuple) else built
    assert isinstance(module, nn.Module)
    return module
