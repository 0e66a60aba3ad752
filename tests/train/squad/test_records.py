"""Files of questions: what is read, and where one is told that a file is wrong."""

import copy

import pytest

from atofx.errors import DataError
from atofx.train.squad.records import Question, load_questions, read_questions
from benchmarks.small_squad import small_squad
from tests.train.squad.conftest import asked, question, write

TEXT = "The boat is red."
GOOD = asked(TEXT, question("1", "What colour?", "red", 12))


def test_a_file_by_hand(tmp_path):
    file = copy.deepcopy(GOOD)
    file["data"][0]["paragraphs"][0]["qas"][0]["answers"].append({"text": "is red", "answer_start": 9})
    (found,) = read_questions(write(tmp_path / "a.json", {**file, "version": "1.1"}))
    assert found == Question("1", "What colour?", TEXT, ("red", "is red"), (12, 9))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({}, "a.json: data: Field required; the format is"),
        ({"data": [{}]}, r"a.json: data\[0\].paragraphs: Field required"),
        ({"data": []}, "has no questions"),
        (asked(TEXT, {"id": "1", "question": "?"}), r"data\[0\].paragraphs\[0\].qas\[0\].answers: Field required"),
        (
            asked(TEXT, question("1", "?", "", 0)),
            r"qas\[0\].answers\[0\].text: String should have at least",
        ),
        (
            asked(TEXT, question("1", "?", "red", -1)),
            r"answers\[0\].answer_start: Input should be greater",
        ),
        (asked(TEXT, question("1", " ", "red", 12)), r"qas\[0\].question: String should match"),
        (
            asked(TEXT, {"id": "one", "question": "?", "answers": []}),
            r"qas\[0\].answers is empty \(question 'one'\).*take the v1.1 files instead of those of v2.0",
        ),
        (
            asked(TEXT, question("1", "?", "red", 11)),
            r"answer_start is 11, where the context reads ' re' and not the answer 'red'.*it begins at 12: correct",
        ),
        (asked(TEXT, question("1", "?", "blue", 3)), "the context does not have it: correct the file"),
        (asked(TEXT, *[question("1", "?", "red", 12)] * 2), "the id '1' is that of several questions"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, file, message):
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / "a.json", file))


def test_what_is_no_json(tmp_path):
    (tmp_path / "a.json").write_text('{"data": [', encoding="utf-8")
    with pytest.raises(DataError, match=r"is not JSON: EOF .* at line 1 column 10"):
        read_questions(tmp_path / "a.json")


def test_a_folder_has_one_file_of_each(tmp_path):
    write(tmp_path / "train-v1.1.json", GOOD)
    with pytest.raises(DataError, match=r"must hold one dev\*.json, and holds none"):
        load_questions(str(tmp_path))
    write(tmp_path / "dev-v1.1.json", asked(TEXT, question("2", "Which?", "boat", 4)))
    found = load_questions(str(tmp_path))
    assert ([q.id for q in found.train], [q.id for q in found.test]) == (["1"], ["2"])
    write(tmp_path / "train-old.json", GOOD)
    with pytest.raises(DataError, match=r"holds train-old.json, train-v1.1.json"):
        load_questions(str(tmp_path))


def test_of_one_file_whole_contexts_are_held_out(tmp_path):
    found = load_questions(str(write(tmp_path / "all.json", small_squad(21))))
    assert {q.id.partition("-")[0] for q in found.test} == {"9", "19", "20"}
    assert (len(found.train), len(found.test)) == (54, 9)
    assert not {q.context for q in found.train} & {q.context for q in found.test}
    with pytest.raises(DataError, match="on one context only, so none can be held out"):
        load_questions(str(write(tmp_path / "one.json", GOOD)))
    with pytest.raises(DataError, match="no file or folder 'nothing' with questions; give --data"):
        load_questions("nothing")
