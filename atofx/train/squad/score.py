"""Exact match and F1, as the official evaluation script of SQuAD v1.1 counts them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, truth: str) -> float:
    """1 if both are the same once normalised, else 0."""
    return float(normalised(answer) == normalised(truth))


def f1(answer: str, truth: str) -> float:
    """Harmonic mean of precision and recall of the words; 0 if they have none in common."""
    given, wanted = normalised(answer).split(), normalised(truth).split()
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted)) if common else 0.0


def mean_score(score: Callable[[str, str], float], answers: Sequence[str], truths: Sequence[Sequence[str]]) -> float:
    """Percent: each answer against the truth it agrees with best, mean over the questions.

    Args:
        score: :func:`exact_match` or :func:`f1`.
        answers: one a question.
        truths: what people have answered to each question; one at least.
    """
    best = [max(score(answer, truth) for truth in given) for answer, given in zip(answers, truths, strict=True)]
    return 100 * sum(best) / len(best)
