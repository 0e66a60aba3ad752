"""Exact match and F1 by hand, with the cases that the official script of SQuAD v1.1 is known for."""

import pytest

from atofx.train.squad.score import exact_match, f1, mean_score, normalised


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("The  Red, boat!", "red boat"),
        ("an apple a day", "apple day"),
        ("Theatre", "theatre"),  # no article inside of a word
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes first, so this is one word
        ("a", ""),
        ("“the” end", "“ ” end"),  # only ASCII punctuation goes
    ],
)
def test_normalised(answer, wanted):
    assert normalised(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "truth", "match", "overlap"),
    [
        ("the red boat", "Red boat.", 1, 1),
        ("red boat", "red", 0, 2 / 3),  # precision 1/2, recall 1
        ("big red red boat", "red red", 0, 2 / 3),  # 2 of 4 and 2 of 2
        ("red", "red red red", 0, 1 / 2),  # repeated words count as often as both have them
        ("blue", "red", 0, 0),
        ("", "red", 0, 0),
        ("the", "a", 1, 0),  # nothing is left of either: the same, and no word in common
    ],
)
def test_one_pair(answer, truth, match, overlap):
    assert exact_match(answer, truth) == match
    assert f1(answer, truth) == pytest.approx(overlap)


def test_the_best_truth_counts_and_questions_are_averaged():
    answers, truths = ["red boat", "Rome"], [("boat", "the red boat"), ("in Rome", "Oslo")]
    assert mean_score(exact_match, answers, truths) == 50
    assert mean_score(f1, answers, truths) == pytest.approx(100 * (1 + 2 / 3) / 2)
