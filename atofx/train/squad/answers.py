"""Scores of starts and ends -> answers in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from atofx.train.squad.records import Question
from atofx.train.squad.windows import Windows

Scores = npt.NDArray[np.float64]


def predicted_answers(
    logits: Tensor, windows: Windows, questions: Sequence[Question], *, n_best: int, most_tokens: int
) -> list[str]:
    """The best answer to each question over all its windows; "" where no start has an end behind it.

    Args:
        logits: (2, N, L); scores of starts and of ends at every position of every window.
        windows: all windows of the questions.
        questions: in the order that the windows count.
        n_best: of each window, so many starts and ends are paired.
        most_tokens: longest answer.
    """
    starts, ends = logits.double().cpu().numpy()
    best = np.full(len(questions), -np.inf)
    answers = [""] * len(questions)
    offsets = windows.offsets.numpy()
    columns = (windows.question.tolist(), windows.context.tolist(), windows.lengths.tolist())
    for row, (question, first, length) in enumerate(zip(*columns, strict=True)):
        part = slice(first, length - 1)  # the last token is [SEP]
        found = best_span(starts[row, part], ends[row, part], n_best=n_best, most_tokens=most_tokens)
        if found is not None and found[0] > best[question]:
            best[question] = found[0]
            begin, end = offsets[row, first + found[1], 0], offsets[row, first + found[2], 1]
            answers[question] = questions[question].context[begin:end]
    return answers


def best_span(starts: Scores, ends: Scores, *, n_best: int, most_tokens: int) -> tuple[float, int, int] | None:
    """Score, first and last token of the best pair of a start and an end not before it; None if there is none.

    Args:
        starts: (tokens,), scores.
        ends: (tokens,), scores.
        n_best: so many of the best starts are paired with so many of the best ends; the earlier of equals.
        most_tokens: longest span.
    """
    first, last = (np.argsort(-scores, kind="stable")[:n_best] for scores in (starts, ends))
    sums = starts[first][:, None] + ends[last][None, :]
    tokens = last[None, :] - first[:, None] + 1
    sums = np.where((tokens >= 1) & (tokens <= most_tokens), sums, -np.inf)
    if not sums.size or not np.isfinite(sums.max()):
        return None
    i, j = np.unravel_index(int(sums.argmax()), sums.shape)
    return float(sums[i, j]), int(first[i]), int(last[j])
