"""From what stands on the command line to a model with example inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atofx.errors import ConfigError, FileError, did_you_mean
from atofx.train import checkpoint
from atofx.train.named_model import SMALL_IMAGE, TORCHVISION, ZOO, NamedModel, Place, find_model, only_module
from atofx.train.squad.extra import squad_extra

_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_TOKENS = 384  # of an example, as in `atofx train --task squad`


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
        large = any(shape[-1] > SMALL_IMAGE for shape in wanted)
        folder = Path(name).expanduser()
        first: Place = TORCHVISION if large or pretrained else ZOO
        named = _in_folder(name, folder) if folder.is_dir() else find_model(name, first)
        if pretrained:
            named = named.pretrained()
        built = named.build(keywords)
        module = only_module(built, name)
        inputs = built[1] if isinstance(built, tuple) else None
        if wanted:
            dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
            tensors = tuple(torch.randn(shape, dtype=dtype) for shape in wanted)
            inputs = tensors[0] if len(tensors) == 1 else tensors
        elif inputs is None and named.shape is not None:
            batch, channels, *sizes = named.shape
            inputs = torch.randn(batch, keywords.get("in_channels", channels), *sizes)
        elif inputs is None:
            raise ConfigError(
                f"{name} needs the shape of its input: add `--input-shape 1,3,224,224`, "
                "or let the factory return (model, example_inputs)"
            )
    if weights is not None and not pretrained:
        load_weights(module, weights)
    return Loaded(name, named.origin, module.eval(), inputs, lambda: named.module(keywords), weights is not None)


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


def _in_folder(name: str, folder: Path) -> NamedModel:
    with squad_extra():
        from atofx.train.squad import bert  # takes seconds: only when it is needed

    config = bert.of_folder(folder)

    def build(length: int = min(_TOKENS, config.max_position_embeddings)) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        return bert.untrained(config), bert.example_inputs(config.vocab_size, 1, length)

    return NamedModel(name, "BERT for question answering", build)
