"""From scores to answers, by hand."""

import numpy as np
import pytest
import torch

from atofx.train.squad.answers import best_span, predicted_answers
from atofx.train.squad.records import Question
from atofx.train.squad.windows import Windows


@pytest.mark.parametrize(
    ("n_best", "most_tokens", "wanted"),
    [
        (5, 30, (9.0, 1, 3)),  # 5 + 4
        (5, 2, (8.0, 3, 3)),  # 1..3 is three tokens, so 4 + 4
        (1, 30, (9.0, 1, 3)),
        (1, 2, None),
    ],
)
def test_the_best_pair(n_best, most_tokens, wanted):
    starts, ends = np.array([0.0, 5, 1, 4, 0]), np.array([9.0 - 20, 0, 1, 4, 2])
    assert best_span(starts, ends, n_best=n_best, most_tokens=most_tokens) == wanted


def test_an_end_lies_not_before_its_start():
    starts, ends = np.array([0.0, 0, 7]), np.array([7.0, 0, 1])
    assert best_span(starts, ends, n_best=3, most_tokens=30) == (8.0, 2, 2)
    assert best_span(starts, ends, n_best=1, most_tokens=30) is None


def test_nothing_is_made_of_scores_that_are_no_numbers():
    assert best_span(np.full(3, np.nan), np.zeros(3), n_best=3, most_tokens=30) is None


def test_the_best_window_answers_and_only_with_the_context():
    """Two windows on "one two three": the question and the padding have the highest scores, and count for nothing."""
    question = Question("q", "what?", "one two three", ("one",), (0,))
    offsets = torch.zeros(2, 6, 2, dtype=torch.int32)
    offsets[0, 3:5] = torch.tensor([[0, 3], [4, 7]])
    offsets[1, 3:5] = torch.tensor([[4, 7], [8, 13]])
    numbers = [torch.tensor(values) for values in ([6, 6], [3, 3], [0, 0])]
    windows = Windows(torch.zeros(2, 6, dtype=torch.int32), *numbers, offsets, torch.zeros(2, 2, dtype=torch.long))
    scores = torch.full((2, 2, 6), 50.0)
    scores[:, 0, 3:5] = torch.tensor([[3.0, 0.0], [0.0, 3.0]])  # starts, ends of the first window: 6 for both tokens
    scores[:, 1, 3:5] = torch.tensor([[0.0, 4.0], [0.0, 3.0]])  # 7 for the last token of the second
    assert predicted_answers(scores, windows, [question], n_best=20, most_tokens=30) == ["three"]
    scores[:, 1] -= 1
    assert predicted_answers(scores, windows, [question], n_best=20, most_tokens=30) == ["one two"]
    assert predicted_answers(scores, windows, [question, question], n_best=1, most_tokens=1) == ["three", ""]
