"""Questions -> sequences of tokens: a question with a window on its context, and where in it the answer is.

As in Devlin et al., NAACL 2019: ``[CLS] question [SEP] window [SEP]``, windows of one question a stride apart; a window
without the whole answer has ``[CLS]`` as its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from atofx.errors import ConfigError
from atofx.train.squad.records import Question
from atofx.train.squad_options import SquadOptions

_OWN = 3  # [CLS] and two [SEP]


@dataclass(frozen=True, eq=False)
class Windows:
    """N sequences, padded to L tokens.

    Attributes:
        ids: (N, L), int32; token numbers.
        lengths: (N,), int64; tokens before the padding.
        context: (N,), int64; position of the first token of the context.
        question: (N,), int64; which question.
        offsets: (N, L, 2), int32; where in the context each of its tokens begins and ends, in characters; elsewhere 0.
        targets: (N, 2), int64; positions of the first and the last token of the answer; 0 if it is not in the window.
    """

    ids: Tensor
    lengths: Tensor
    context: Tensor
    question: Tensor
    offsets: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.ids)


def make_windows(questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase, options: SquadOptions) -> Windows:
    """All windows of all questions, in order.

    Raises:
        ConfigError: no room for a context is left beside a question.
    """
    length = options.max_length
    if options.max_question_length + _OWN >= length:
        raise ConfigError(
            f"squad.max_length {length} leaves no room beside a question of squad.max_question_length "
            f"{options.max_question_length} tokens and {_OWN} of BERT's own"
        )
    asked = _tokens(tokenizer, [question.text for question in questions])[0]
    texts = list(dict.fromkeys(question.context for question in questions))
    tokens, places = _tokens(tokenizer, texts)
    number = {text: position for position, text in enumerate(texts)}
    rows: list[_Row] = []
    for position, question in enumerate(questions):
        which = number[question.context]
        words = asked[position][: options.max_question_length]
        span = _span(places[which], question)
        room = length - len(words) - _OWN
        for begin in _begins(len(tokens[which]), room, min(options.stride, room)):
            part = slice(begin, begin + room)
            rows.append(_Row(position, words, tokens[which][part], places[which][part], _shifted(span, begin, room)))
    return _packed(rows, tokenizer, length)


@dataclass(frozen=True, eq=False)
class _Row:
    question: int
    words: list[int]
    part: list[int]
    places: npt.NDArray[np.int32]
    span: tuple[int, int] | None


def _tokens(
    tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> tuple[list[list[int]], list[npt.NDArray[np.int32]]]:
    """Token numbers and their places in each text, without BERT's own tokens."""
    found: Any = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # contexts may be longer than the network takes: they are cut into windows
    )
    places = [np.asarray(offsets, dtype=np.int32).reshape(-1, 2) for offsets in found["offset_mapping"]]
    return found["input_ids"], places


def _span(places: npt.NDArray[np.int32], question: Question) -> tuple[int, int] | None:
    """First and last token of the first answer; None if it has none."""
    begin = question.starts[0]
    end = begin + len(question.answers[0])
    first = int(np.searchsorted(places[:, 1], begin, side="right"))
    last = int(np.searchsorted(places[:, 0], end, side="left")) - 1
    return (first, last) if first <= last else None


def _begins(count: int, room: int, stride: int) -> list[int]:
    """Where windows begin: a stride apart, until one reaches the end."""
    return list(range(0, max(1, count - room + stride), max(1, stride)))


def _shifted(span: tuple[int, int] | None, begin: int, room: int) -> tuple[int, int] | None:
    if span is None or span[0] < begin or span[1] >= begin + room:
        return None
    return span[0] - begin, span[1] - begin


def _packed(rows: Sequence[_Row], tokenizer: PreTrainedTokenizerBase, length: int) -> Windows:
    count = len(rows)
    ids = np.full((count, length), tokenizer.pad_token_id, dtype=np.int32)
    offsets = np.zeros((count, length, 2), dtype=np.int32)
    numbers = np.zeros((count, 5), dtype=np.int64)  # length, first of the context, question, target
    for position, row in enumerate(rows):
        first = len(row.words) + 2
        tokens = [tokenizer.cls_token_id, *row.words, tokenizer.sep_token_id, *row.part, tokenizer.sep_token_id]
        ids[position, : len(tokens)] = tokens
        offsets[position, first : first + len(row.part)] = row.places
        target = (0, 0) if row.span is None else (row.span[0] + first, row.span[1] + first)
        numbers[position] = (len(tokens), first, row.question, *target)
    found = torch.from_numpy(numbers)
    return Windows(
        torch.from_numpy(ids),
        found[:, 0].contiguous(),
        found[:, 1].contiguous(),
        found[:, 2].contiguous(),
        torch.from_numpy(offsets),
        found[:, 3:].contiguous(),
    )
