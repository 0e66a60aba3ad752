"""The options of task squad: what a training configuration nests under ``squad``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from atofx.train.options import Options


class SquadOptions(Options):
    """Extractive question answering (Rajpurkar et al., EMNLP 2016) with BERT (Devlin et al., NAACL 2019)."""

    config: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """For a size of BERT: fields of its Hugging Face configuration that differ, such as {num_hidden_layers: 3}."""
    embeddings: Literal["train", "fixed"] = "train"
    """fixed: the embeddings of words, positions and segments and their norm are not updated, as in OTO."""
    lower_case: bool = True
    """With a vocabulary that is no checkpoint's: letters are made lower case and lose their accents."""
    vocab_size: int = Field(default=8192, ge=64)
    """Most tokens of a vocabulary made of the training file."""
    max_length: int = Field(default=384, ge=16)
    """Tokens of a sequence: question, part of the context, and three of BERT's own."""
    stride: int = Field(default=128, ge=1)
    """Tokens of the context from the beginning of one sequence of a question to that of the next."""
    max_question_length: int = Field(default=64, ge=1)
    """Tokens of a question; longer ones are cut."""
    max_answer_length: int = Field(default=30, ge=1)
    """Tokens of a predicted answer, at most."""
    n_best: int = Field(default=20, ge=1)
    """How many starts and ends of a sequence are paired for the prediction."""
