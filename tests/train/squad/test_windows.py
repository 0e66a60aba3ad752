"""Windows by hand: tokens, places, segments, answers."""

import numpy as np
import pytest
import torch

from atofx.errors import ConfigError
from atofx.train.plan import Batch
from atofx.train.squad.records import Question
from atofx.train.squad.sequences import Sequences
from atofx.train.squad.vocabulary import of_file, of_texts
from atofx.train.squad.windows import make_windows
from atofx.train.squad_options import SquadOptions

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "red", "a", "boat", "##s", "no", "b"]
PAD, UNK, CLS, SEP, WHAT, IS, RED, A, BOAT, S = 0, 1, 2, 3, 5, 6, 7, 8, 9, 10


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    return of_file(str(tmp_path / "vocab.txt"), lower_case=True)


def asked(context: str, answer: str) -> Question:
    return Question("1", "What is?", context, (answer,), (context.index(answer),))


def test_one_window(tokenizer):
    options = SquadOptions(max_length=16, max_question_length=8)
    windows = make_windows([asked("A  Red boats", "boats")], tokenizer, options)
    (ids,) = windows.ids.tolist()
    assert ids == [CLS, WHAT, IS, UNK, SEP, A, RED, BOAT, S, SEP, *[PAD] * 6]
    assert (windows.lengths.tolist(), windows.context.tolist(), windows.question.tolist()) == ([10], [5], [0])
    assert windows.offsets[0, 5:9].tolist() == [[0, 1], [3, 6], [7, 11], [11, 12]]
    assert windows.offsets[0, [0, 1, 4, 9, 10]].sum() == 0
    assert windows.targets.tolist() == [[7, 8]]


def test_an_answer_in_the_middle_of_a_word_takes_the_token_it_is_in(tokenizer):
    windows = make_windows([asked("a red boats", "oat")], tokenizer, SquadOptions(max_length=16, max_question_length=8))
    assert windows.targets.tolist() == [[7, 7]]


def test_long_contexts_are_cut_into_windows_a_stride_apart(tokenizer):
    """16 tokens leave 10 for the context beside a question of 3; the context has 20, the answer is the 12th to 14th."""
    words = ["red"] * 11 + ["a", "boat", "is"] + ["red"] * 6
    options = SquadOptions(max_length=16, max_question_length=8, stride=4)
    windows = make_windows([asked(" ".join(words), "a boat is")], tokenizer, options)
    assert len(windows) == 4  # from 0, 4, 8 and 12, which reaches the end
    assert windows.lengths.tolist() == [16, 16, 16, 14]
    assert windows.ids[:, 5].tolist() == [RED, RED, RED, BOAT]
    assert windows.targets.tolist() == [[0, 0], [12, 14], [8, 10], [0, 0]]  # in the last one "a" is cut off
    assert [windows.offsets[row, 5, 0].item() for row in range(4)] == [0, 16, 32, len(" ".join(words[:12])) + 1]
    wide = make_windows([asked(" ".join(words), "a boat is")], tokenizer, options.model_copy(update={"stride": 99}))
    assert len(wide) == 2  # a stride beyond the window would leave tokens out


def test_long_questions_are_cut(tokenizer):
    options = SquadOptions(max_length=16, max_question_length=2)
    windows = make_windows([asked("a boat", "boat")], tokenizer, options)
    assert windows.ids[0, :7].tolist() == [CLS, WHAT, IS, SEP, A, BOAT, SEP]
    with pytest.raises(ConfigError, match=r"max_length 16 leaves no room beside a question of .* 13 tokens"):
        make_windows([asked("a boat", "boat")], tokenizer, SquadOptions(max_length=16, max_question_length=13))


def test_batches_are_cut_to_their_longest_sequence(tokenizer):
    options = SquadOptions(max_length=32, max_question_length=8)
    windows = make_windows([asked("a boat", "a"), asked("a red boat is", "red")], tokenizer, options)
    plan = [Batch(np.array([0])), Batch(np.array([1, 0]))]
    (one, first), (both, second) = Sequences(windows, torch.device("cpu")).batches(plan)
    assert one["input_ids"].tolist() == [[CLS, WHAT, IS, UNK, SEP, A, BOAT, SEP]]
    assert both["attention_mask"].tolist() == [[1] * 10, [1] * 8 + [0] * 2]
    assert both["token_type_ids"].tolist() == [[0] * 5 + [1] * 5, [0] * 5 + [1] * 3 + [0] * 2]
    assert (first.tolist(), second.tolist()) == ([[5, 5]], [[6, 6], [5, 5]])


def test_a_vocabulary_of_texts_is_the_same_every_time():
    texts = ["Red boats, red Häuser", "a boat is a boat is red"]
    found = of_texts(texts, 64, lower_case=True).get_vocab()
    ordered = sorted(found, key=found.__getitem__)
    assert ordered[:5] == TOKENS[:5]
    assert {"red", "boat", "boats", "hauser", ",", "r", "##r"} <= set(found)
    assert of_texts(texts, 64, lower_case=True).get_vocab() == found
    small = of_texts(texts, 12, lower_case=True).get_vocab()
    assert len(small) == 12
    assert "red" in small  # characters take at most half
    assert "Häuser" in of_texts(texts, 64, lower_case=False).get_vocab()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["red"], r"lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        ([*TOKENS, "red"], "has 'red' twice"),
    ],
)
def test_vocabularies_that_are_refused(tmp_path, lines, message):
    (tmp_path / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        of_file(str(tmp_path / "vocab.txt"), lower_case=True)
    with pytest.raises(ConfigError, match="cannot read the vocabulary"):
        of_file(str(tmp_path / "none.txt"), lower_case=True)
