"""Files in the format of SQuAD v1.1 -> questions.

Source: Rajpurkar et al., *SQuAD: 100,000+ Questions for Machine Comprehension of Text*, EMNLP 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from atofx.errors import DataError

_FORMAT = (
    'the format is {"data": [{"paragraphs": [{"context": text, "qas": [{"id": text, "question": text, '
    '"answers": [{"text": text, "answer_start": number}]}]}]}]}'
)


@dataclass(frozen=True)
class Question:
    """One question on one text.

    Attributes:
        id: unique in its file.
        text: the question.
        context: what it is on.
        answers: what people have answered, each a piece of the context; one at least.
        starts: where in the context each begins, in characters.
    """

    id: str
    text: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class _Answer(BaseModel):
    text: Text
    answer_start: NonNegativeInt


class _Asked(BaseModel):
    id: Text
    question: Text
    answers: list[_Answer]


class _Paragraph(BaseModel):
    context: Text
    qas: list[_Asked]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: list[_Article]


def read_questions(path: Path) -> tuple[Question, ...]:
    """All questions of a file, in its order.

    Raises:
        DataError: the file cannot be read, or what is in it is not SQuAD v1.1; says where.
    """
    try:
        found = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the questions {str(path)!r}: {error.strerror}") from error
    except ValidationError as error:
        raise DataError(_explain(path, error)) from error
    questions = []
    for a, article in enumerate(found.data):
        for p, paragraph in enumerate(article.paragraphs):
            for q, asked in enumerate(paragraph.qas):
                where = f"data[{a}].paragraphs[{p}].qas[{q}]"
                questions.append(_question(path, where, paragraph.context, asked))
    if not questions:
        raise DataError(f"{path} has no questions; {_FORMAT}")
    twice = [name for name, count in Counter(question.id for question in questions).items() if count > 1]
    if twice:
        raise DataError(f"{path}: the id {twice[0]!r} is that of several questions; every question needs its own")
    return tuple(questions)


def _question(path: Path, where: str, context: str, asked: _Asked) -> Question:
    if not asked.answers:
        raise DataError(
            f"{path}: {where}.answers is empty (question {asked.id!r}); in SQuAD v1.1 every question has an answer: "
            "leave the question out, or take the v1.1 files instead of those of v2.0"
        )
    for number, answer in enumerate(asked.answers):
        there = context[answer.answer_start : answer.answer_start + len(answer.text)]
        if there != answer.text:
            at = context.find(answer.text)
            hint = f"it begins at {at}" if at >= 0 else "the context does not have it"
            raise DataError(
                f"{path}: {where}.answers[{number}].answer_start is {answer.answer_start}, where the context reads "
                f"{there!r} and not the answer {answer.text!r} (question {asked.id!r}); {hint}: correct the file"
            )
    texts, starts = zip(*((answer.text, answer.answer_start) for answer in asked.answers), strict=True)
    return Question(asked.id, asked.question, context, texts, starts)


def _explain(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"{path} is not JSON: {first['ctx']['error']}; {_FORMAT}"
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    return f"{path}: {where or 'the file'}: {first['msg']}; {_FORMAT}"


@dataclass(frozen=True)
class Questions:
    """Questions to learn from and to be tested with."""

    train: tuple[Question, ...]
    test: tuple[Question, ...]


def load_questions(path: str) -> Questions:
    """Training and test questions: of a folder with one ``train*.json`` and one ``dev*.json``, or of one file.

    Of one file every tenth context (the last of ten, and the last of all) is the test, with all its questions.

    Raises:
        DataError: nothing there, an unreadable or malformed file, or only one context in a single file.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return Questions(read_questions(_only(place, "train*.json")), read_questions(_only(place, "dev*.json")))
    if not place.is_file():
        raise DataError(
            f"no file or folder {path!r} with questions; give --data a file in the format of SQuAD v1.1, or a folder "
            "with train*.json and dev*.json"
        )
    return _held_out(place, read_questions(place))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"{str(folder)!r} must hold one {pattern}, and holds {names}")
    return found[0]


def _held_out(path: Path, questions: Sequence[Question]) -> Questions:
    contexts = list(dict.fromkeys(question.context for question in questions))
    if len(contexts) < 2:
        raise DataError(
            f"{path} has questions on one context only, so none can be held out as test; give --data a folder with "
            "with train*.json and dev*.json"
        )
    test = {context for number, context in enumerate(contexts) if number % 10 == 9} | {contexts[-1]}
    return Questions(
        tuple(question for question in questions if question.context not in test),
        tuple(question for question in questions if question.context in test),
    )
