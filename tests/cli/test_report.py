"""`atofx report`: one run, several runs, machines, and what is refused."""

import json
import shutil

import pytest

from atofx.train import run
from atofx.train.config import TrainConfig


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    quick = {"model": "tests.train.nets:Small", "epochs": 2, "lr": 0.3, "latency_batch": 2, "flops": 0.6}
    run(TrainConfig.parse({**quick, "out": str(folder)}))
    return folder


def test_one_run(atofx_command, finished):
    (finished / "report.html").unlink()
    result = atofx_command("report", str(finished))
    assert result.exit_code == 0, result.stderr
    assert f"The page is {finished / 'report.html'}" in result.stdout
    assert "multiply-adds" in result.stdout
    assert "2 runs" not in (finished / "report.html").read_text(encoding="utf-8")


def test_several_runs(atofx_command, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "other" / finished.name)
    result = atofx_command("report", str(finished), f"other/{finished.name}")
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "<title>2 runs</title>" in page
    assert f'"name":"other/{finished.name}"' in page  # folders of one name are told apart


def test_as_json(atofx_command, finished, tmp_path):
    page = tmp_path / "page.html"
    data = json.loads(atofx_command("report", str(finished), "--out", str(page), "--json").stdout)
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    assert data["page"] == str(page)
    assert page.exists()
    (one,) = data["runs"]
    assert one["top1"] == result["compact_top1"]
    assert one["flops_kept"] == result["flops_compact"] / result["flops_dense"]


def test_one_clear_error(atofx_command, finished, tmp_path):
    for arguments, message in (
        ((str(tmp_path / "none"),), "is no folder of a run"),
        ((str(finished), "--out", str(tmp_path)), "is no name of a page; it ends in .html"),
        ((str(finished), "--out", str(tmp_path / "no" / "page.html")), "cannot write"),
        ((str(finished), "--out", str(finished / "config.yaml")), "is no name of a page"),
        ((str(finished), str(finished / ".")), "is named twice"),
    ):
        result = atofx_command("report", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
