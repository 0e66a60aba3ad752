"""The commands on a run of task squad."""

import json

import pytest

from benchmarks.small_squad import small_squad

pytest.importorskip("transformers", reason="transformers is not installed (it is in the squad and test extras)")

QUICK = (
    "--epochs",
    "3",
    "--latency-batch",
    "1",
    "--set",
    "squad.max_length=64",
    "--set",
    "squad.max_question_length=24",
)
SMALL = ("--set", "squad.config={hidden_size: 32, num_attention_heads: 2, intermediate_size: 64}")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    file = tmp_path_factory.mktemp("questions") / "questions.json"
    file.write_text(json.dumps(small_squad(30)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(questions, tmp_path_factory):
    from typer.testing import CliRunner

    from atofx.cli.app import app

    folder = tmp_path_factory.mktemp("runs") / "bert"
    command = ["train", "--task", "squad", "--data", str(questions), "--out", str(folder), *QUICK, *SMALL]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert "exact match and F1 on the test questions; FLOPs: multiply-adds of one" in " ".join(result.stdout.split())
    return folder


def test_report(atofx_command, finished):
    data = json.loads(atofx_command("report", str(finished), "--json").stdout)
    written = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    (one,) = data["runs"]
    assert (one["exact_match"], one["f1"]) == (written["compact_exact_match"], written["compact_f1"])
    text = atofx_command("report", str(finished)).stdout
    assert (
        text.splitlines()[0].split()
        == "run method model exact match F1 FLOPs kept parameters kept times faster".split()
    )
    assert "FLOPs: multiply-adds of one sequence of 64 tokens, counted once; exact match and F1 of the compact" in text


def test_what_is_zero_in_the_checkpoint_is_cut(atofx_command, finished, tmp_path):
    model = ("--model", str(finished / "hugging_face"), "--granularity", "dims", "--arg", "length=64")
    result = atofx_command("compact", str(finished / "last.safetensors"), *model, "--out", str(tmp_path), "--json")
    assert result.exit_code == 0, result.stderr
    found, run = json.loads(result.stdout), json.loads((finished / "result.json").read_text(encoding="utf-8"))
    assert found["ok"]
    for name in ("flops_dense", "flops_compact", "params_dense", "params_compact"):
        assert found[name] == run[name]


def test_the_folder_of_a_bert_is_a_model(atofx_command, finished, tmp_path):
    folder = str(finished / "hugging_face")
    data = json.loads(atofx_command("inspect", folder, "--json").stdout)
    assert "bert.encoder.layer.0.intermediate.dense" in {group["name"] for group in data["groups"]}
    for arguments, message in (
        ((folder, "--arg", "lenght=64"), "cannot build"),
        ((folder, "--weights", "pretrained"), "is for torchvision's models"),
        ((str(tmp_path),), "is no Hugging Face checkpoint: it has no config.json"),
    ):
        result = atofx_command("inspect", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_methods_side_by_side(atofx_command, questions, tmp_path):
    options = ("--task", "squad", "--data", str(questions), "--methods", "hesso,l2", "--out", str(tmp_path / "all"))
    result = atofx_command("compare", *options, *QUICK, *SMALL, "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["method", "exact", "match", "F1"]
    assert [line.split()[0] for line in lines[2:5]] == ["dense", "hesso", "l2"]


def test_runs_of_different_tasks_are_not_compared(atofx_command, finished, tmp_path):
    images = (
        "--model",
        "tests.train.nets:Small",
        "--epochs",
        "1",
        "--latency-batch",
        "2",
        "--out",
        str(tmp_path / "run"),
    )
    assert atofx_command("train", *images).exit_code == 0
    result = atofx_command("report", str(finished), str(tmp_path / "run"), "--out", str(tmp_path / "page.html"))
    assert result.exit_code == 2
    assert "runs of different tasks cannot be compared" in result.stderr
    assert not (tmp_path / "page.html").exists()
