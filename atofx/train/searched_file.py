"""Files that describe the networks a search has found, as those published with TAS, and the networks they describe.

A file is JSON (or YAML) with the keys ``xchannels``: the channels of the images, of the stem, and of every convolution
of every block in order; ``xblocks``: how many blocks of each of the three stages are there (without it, all of them);
``depth``; ``module`` (``ResNetBasicblock`` or ``ResNetBottleneck``); ``class_num``; and ``estimated_FLOP``, in millions
of multiply-adds counted once. Published ones give every value with its type: ``["int", "32"]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from atofx.errors import ConfigError
from atofx.zoo.searched_resnet import SearchedResNet

#: What a model's name begins with where it is such a file: ``tas:FILE``.
SEARCHED = "tas"
#: Convolutions in a block, by the name of its module.
_CONVOLUTIONS: Mapping[str, int] = MappingProxyType({"ResNetBasicblock": 2, "ResNetBottleneck": 3})
_STAGES = 3


@dataclass(frozen=True)
class SearchedShape:
    """What a file says.

    Attributes:
        stem: output channels of the first convolution.
        stages: by stage and block, output channels of its convolutions; also of blocks that are not there.
        blocks: how many of the blocks of each stage are there, the first ones.
        classes: of the classifier.
        stated: FLOPs in millions as the file states them, None if it does not. Only convolutions and the classifier are
            counted, and a stage behind one that lost blocks as if it read the width of the last block *listed*.
    """

    stem: int
    stages: tuple[tuple[tuple[int, ...], ...], ...]
    blocks: tuple[int, ...]
    classes: int
    stated: float | None

    def build(self, num_classes: int | None = None, in_channels: int = 3) -> SearchedResNet:
        """The network with random weights; of the file's number of classes by default.

        A stage reads the last block that is *there* of the one before it.
        """
        kept = [stage[:count] for stage, count in zip(self.stages, self.blocks, strict=True)]
        return SearchedResNet(self.stem, kept, num_classes or self.classes, in_channels)


def read_searched(path: str | Path) -> SearchedShape:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, or does not describe such a network.
    """
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the searched network {str(path)!r}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{str(path)!r} describes no searched network: it holds a {type(loaded).__name__}")
    try:
        return _shape({str(key): _plain(value) for key, value in loaded.items()})
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{str(path)!r} describes no searched ResNet for CIFAR: {what}") from error


def _plain(value: Any) -> Any:
    """The value, without its type in front."""
    typed = isinstance(value, list) and len(value) == 2 and value[0] in ("int", "float", "str", "bool")
    return value[1] if typed else value


def _shape(values: Mapping[str, Any]) -> SearchedShape:
    module = values["module"]
    if module not in _CONVOLUTIONS:
        raise ValueError(f"module is {module!r}, not {' or '.join(_CONVOLUTIONS)}")
    each = _CONVOLUTIONS[module]
    widths = [int(width) for width in values["xchannels"]]
    inner = widths[2:]
    per_stage, rest = divmod(len(inner), each * _STAGES)
    if rest or not per_stage or min(widths) < 1:
        raise ValueError(
            f"xchannels has {len(inner)} widths of blocks, not a multiple of {each * _STAGES}, all above 0"
        )
    if "depth" in values and int(values["depth"]) != len(widths):
        raise ValueError(f"depth is {values['depth']}, but xchannels has {len(widths)} entries")
    listed = [tuple(inner[i : i + each]) for i in range(0, len(inner), each)]
    stages = tuple(tuple(listed[i : i + per_stage]) for i in range(0, len(listed), per_stage))
    blocks = tuple(int(count) for count in values.get("xblocks", [per_stage] * _STAGES))
    if len(blocks) != _STAGES or not all(1 <= count <= per_stage for count in blocks):
        raise ValueError(f"xblocks is {list(blocks)}; of each of three stages 1 to {per_stage} blocks are there")
    stated = values.get("estimated_FLOP")
    return SearchedShape(
        widths[1], stages, blocks, int(values.get("class_num", 10)), None if stated is None else float(stated)
    )
