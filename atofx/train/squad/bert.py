"""BERT for question answering: from a size, from a configuration, or from the folder of a Hugging Face checkpoint.

Sizes: Devlin et al., NAACL 2019 (base, large), and Turc et al., *Well-Read Students Learn Better*, 2019 (the others).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering, PreTrainedTokenizerBase

from atofx.errors import ConfigError, FileError, did_you_mean
from atofx.train.config import TrainConfig
from atofx.train.squad import vocabulary

#: Layers, width and heads; the feed-forward layers are four times as wide.
SIZES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "bert-tiny": (2, 128, 2),
        "bert-mini": (4, 256, 4),
        "bert-small": (4, 512, 8),
        "bert-medium": (8, 512, 8),
        "bert-base": (12, 768, 12),
        "bert-large": (24, 1024, 16),
    }
)
#: Where a run keeps the configuration and the tokenizer, in the form of a Hugging Face checkpoint without weights.
FOLDER = "hugging_face"


@dataclass(frozen=True, eq=False)
class Bert:
    """A tokenizer and the network for it.

    Attributes:
        config: of the network.
        tokenizer: turns text into its inputs.
        make: makes the network, in eval mode, on the CPU; random weights come from torch's global generator.
    """

    config: BertConfig
    tokenizer: PreTrainedTokenizerBase
    make: Callable[[], nn.Module]


def load_bert(config: TrainConfig, texts: Callable[[], Iterable[str]]) -> Bert:
    """What ``model`` names.

    Args:
        config: options of the run.
        texts: gives the training texts, for a vocabulary made of them.

    Raises:
        ConfigError: no such size, file or folder, or options that do not fit it.
        FileError: the folder's files cannot be read, or its weights are a pickle.
    """
    place = Path(config.model).expanduser()
    if place.is_dir():
        return _checked(_of_checkpoint(place, config), config)
    if config.model in SIZES:
        layers, width, heads = SIZES[config.model]
        values: dict[str, Any] = {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
        }
    elif place.suffix == ".json" and place.is_file():
        values = _values(place)
    else:
        hint = did_you_mean(config.model, SIZES, f" (sizes: {', '.join(SIZES)})")
        raise ConfigError(
            f"no BERT {config.model!r}{hint}; others are the folder of a Hugging Face checkpoint, or its config.json "
            "for random weights"
        )
    lower_case = config.squad.lower_case
    if config.vocab is not None:
        tokenizer = vocabulary.of_file(config.vocab, lower_case=lower_case)
    else:
        tokenizer = vocabulary.of_texts(texts(), config.squad.vocab_size, lower_case=lower_case)
    own = _config({**values, **_known(config.squad.config), "vocab_size": len(tokenizer)})
    return _checked(Bert(own, tokenizer, lambda: untrained(own)), config)


def untrained(config: BertConfig) -> nn.Module:
    """The network of a configuration with random weights, in eval mode.

    Raises:
        ConfigError: there is no such network.
    """
    try:
        model: nn.Module = BertForQuestionAnswering._from_config(config)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:  # heads that do not divide the width, and the like
        raise ConfigError(f"there is no BERT of this configuration: {error}") from error
    return model.eval()


def example_inputs(tokens: int, count: int, length: int) -> dict[str, Tensor]:
    """Inputs by keyword, (count, length) int64 each: random tokens, the second half of them the context.

    Args:
        tokens: size of the vocabulary.
        count: sequences.
        length: tokens in each.
    """
    ids = torch.randint(tokens, (count, length), generator=torch.Generator().manual_seed(0))
    segments = (torch.arange(length) >= length // 2).long().expand(count, length).contiguous()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": segments}


def of_folder(folder: Path) -> BertConfig:
    """The configuration in the folder of a Hugging Face checkpoint, with weights or without.

    Raises:
        FileError: it has none.
        ConfigError: it is not one of BERT.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileError(f"{str(folder)!r} is no Hugging Face checkpoint: it has no config.json")
    return _config(_values(file))


def kept_config(folder: Path) -> BertConfig:
    """The configuration that a run has left in its folder.

    Raises:
        FileError: it has none.
    """
    return of_folder(folder / FOLDER)


def kept_vocabulary(folder: Path) -> dict[str, int]:
    """The vocabulary that a run has left in its folder: token -> number."""
    found: dict[str, int] = _tokenizer(folder / FOLDER).get_vocab()
    return found


def _of_checkpoint(folder: Path, config: TrainConfig) -> Bert:
    if config.vocab is not None:
        raise ConfigError(f"the checkpoint {str(folder)!r} has its own vocabulary; leave out vocab")
    if config.squad.config:
        raise ConfigError(f"the checkpoint {str(folder)!r} has its own configuration; leave out squad.config")
    own = of_folder(folder)
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"{pickles[0]} is a pickle, and opening one can run code: convert it with" if pickles else "convert with"
        raise FileError(
            f"{str(folder)!r} has no weights in a .safetensors file ({hint} transformers' save_pretrained); for random "
            f"weights give {str(folder / 'config.json')!r}"
        )

    def make() -> nn.Module:
        try:
            model: nn.Module = BertForQuestionAnswering.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise FileError(f"cannot load the weights in {str(folder)!r}: {error}") from error
        return model.eval()

    return Bert(own, _tokenizer(folder), make)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise FileError(f"{str(folder)!r} has no tokenizer: neither tokenizer.json nor vocab.txt")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"cannot read the tokenizer in {str(folder)!r}: {error}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if not tokenizer.is_fast:
        raise FileError(f"the tokenizer in {str(folder)!r} cannot say where a token is in the text; add tokenizer.json")
    return tokenizer


def _values(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read the configuration {str(file)!r}: {error}") from error
    kind = values.get("model_type", "bert") if isinstance(values, dict) else type(values).__name__
    if kind != "bert":
        raise ConfigError(
            f"{str(file)!r} is the configuration of {kind}, and only that of a bert is read; give another network of "
            "Hugging Face as package.module:factory (and train it in Python)"
        )
    assert isinstance(values, dict)
    return values


def _config(values: Mapping[str, Any]) -> BertConfig:
    try:
        return BertConfig(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"there is no BERT of this configuration: {error}") from error


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    known = BertConfig().to_dict()
    for name in fields:
        if name not in known or name == "vocab_size":
            hint = "" if name in known else did_you_mean(name, known)
            raise ConfigError(f"squad.config: {name!r} is no field of a BERT that can be given here{hint}")
    return dict(fields)


def _checked(bert: Bert, config: TrainConfig) -> Bert:
    most = bert.config.max_position_embeddings
    if config.squad.max_length > most:
        raise ConfigError(
            f"squad.max_length {config.squad.max_length} is beyond the {most} positions of {config.model}"
        )
    if len(bert.tokenizer) > bert.config.vocab_size:
        raise ConfigError(
            f"the tokenizer of {config.model} has {len(bert.tokenizer)} tokens, its network {bert.config.vocab_size}"
        )
    return bert
