"""Shared by the tests of task squad."""

import json
from pathlib import Path
from typing import Any

import pytest

from atofx.train import run
from atofx.train.config import TrainConfig, merged
from atofx.train.recipes import load_config
from atofx.train.result import RunResult
from benchmarks.small_squad import small_squad

pytest.importorskip("transformers", reason="transformers is not installed (it is in the squad and test extras)")

#: A network that trains in seconds.
NET = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def write(path: Path, file: Any) -> Path:
    path.write_text(json.dumps(file), encoding="utf-8")
    return path


def asked(context: str, *questions: dict[str, Any]) -> dict[str, Any]:
    """A file with one context."""
    return {"data": [{"paragraphs": [{"context": context, "qas": list(questions)}]}]}


def question(name: str, text: str, answer: str, begin: int) -> dict[str, Any]:
    return {"id": name, "question": text, "answers": [{"text": answer, "answer_start": begin}]}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of questions that can be learnt."""
    return write(tmp_path_factory.mktemp("questions") / "questions.json", small_squad(100))


#: Learns the file above in four seconds.
QUICK: dict[str, Any] = {
    "task": "squad",
    "squad": {"config": NET, "max_length": 64, "stride": 32, "max_question_length": 24},
    "epochs": 12,
    "lr": 4e-3,
    "warmup_epochs": 1,
    "eval_every": 4,
    "latency_batch": 1,
}


def quick(file: Path, out: Path, **values: Any) -> RunResult:
    return run(config(file, out, **values))


def config(file: Path, out: Path, **values: Any) -> TrainConfig:
    return load_config("squad", merged(QUICK, {"data": str(file), "out": str(out), **values}))
