"""The report of a run: every figure in it is one that the run left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import atofx
from atofx.errors import FileError
from atofx.report.run_data import run_data
from atofx.report.run_report import write_comparison, write_run_report
from tests.report.conftest import EPOCHS, embedded


def shown(page: Path) -> list[dict[str, Any]]:
    return embedded(page.read_text(encoding="utf-8"))["runs"]


def written(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return records, json.loads((folder / "result.json").read_text(encoding="utf-8"))


def test_a_run_leaves_its_report_with_the_figures_of_its_files(digits: Path) -> None:
    (report,) = shown(digits / "report.html")
    records, result = written(digits)
    assert report["result"] == result
    assert report["config"] == (digits / "config.yaml").read_text(encoding="utf-8")
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert [row["epoch"] for row in report["epochs"]] == list(range(1, EPOCHS + 1))
    for row, record in zip(report["epochs"], epochs, strict=True):
        assert row.items() <= record.items()
        assert {"accuracy", "flops"} <= row.keys()
    tested = [row for row in report["epochs"] if "top1" in row or "masked_top1" in row]
    assert [row["epoch"] for row in tested] == [2, 4, 5]
    assert tested[-1]["masked_top1"] == pytest.approx(result["masked_top1"])


def test_widths_are_those_of_the_mask_and_its_course_ends_with_it(digits: Path) -> None:
    (report,) = shown(digits / "report.html")
    mask = atofx.Mask.load(digits / "mask.json")
    assert [(g["name"], g["units"], g["kept"]) for g in report["groups"]] == [
        (name, vector.numel(), int(vector.sum())) for name, vector in mask.items()
    ]
    records, _ = written(digits)
    masks = [record for record in records if record["kind"] == "mask"]
    assert report["masks"]["epochs"] == [record["epoch"] for record in masks] == list(range(1, EPOCHS + 1))
    for shares, record in zip(report["masks"]["kept"], masks, strict=True):
        assert shares == [record["kept"][name] / record["units"][name] for name in mask]
    assert report["masks"]["kept"][-1] == [float(vector.float().mean()) for vector in mask.values()]


def test_layers_add_up_and_the_certificate_holds(digits: Path) -> None:
    (report,) = shown(digits / "report.html")
    result = report["result"]
    for side in ("dense", "compact"):
        assert sum(layer[side] for layer in result["layers"]) == result[f"flops_{side}"]
    assert {"conv1", "conv2", "fc"} <= {layer["name"] for layer in result["layers"]}
    verified = result["verification"]
    assert verified["ok"]
    assert verified["error"] <= verified["tolerance"] == 1e-9
    assert verified["flops_counted"] == result["flops_compact"]
    assert verified["params_counted"] == result["params_compact"]
    for side in ("dense", "compact"):
        lower, upper = result[f"latency_{side}_quartiles_ms"]
        assert 0 < lower <= result[f"latency_{side}_ms"] <= upper


def test_nothing_in_a_page_is_fetched_or_ends_its_data(digits: Path, uniform: Path, tmp_path: Path) -> None:
    page = write_comparison([digits, uniform], tmp_path / "both.html")
    for file in (digits / "report.html", page):
        text = file.read_text(encoding="utf-8")
        assert "default-src 'none'" in text
        assert "<b>" not in text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
        assert "ato &lt;b&gt;" in text or file == page
        assert ' src="http' not in text
        assert ' href="http' not in text


def test_several_runs_side_by_side(digits: Path, uniform: Path, tmp_path: Path) -> None:
    reports = shown(write_comparison([digits, uniform], tmp_path / "both.html"))
    assert [(r["name"], r["method"]) for r in reports] == [("ato <b>", "ato"), ("uniform", "l2")]
    assert reports == [run_data(digits), run_data(uniform)]


def test_what_is_no_finished_run_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no folder of a run: it has no config\.yaml"):
        write_run_report(tmp_path)
    with pytest.raises(FileError, match=r"is not finished: it has no result\.json.*--resume"):
        write_run_report(digits / "baseline")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("result.json", "{", "is damaged"),
        ("result.json", "[]", "holds no JSON object"),
        ("result.json", "{}", "none of `atofx train`: scores: Field required"),
        ("metrics.jsonl", '{"kind": "epoch"}', "epoch: Field required"),
        ("metrics.jsonl", '{"kind": "mask", "epoch": 1, "kept": {}, "units": {}}', "the mask of epoch 1 has no group"),
        ("mask.json", '{"groups": {"a": {"size": 3}}}', "groups.a.dropped: Field required"),
        ("mask.json", '{"groups": null}', "groups: "),
        ("metrics.jsonl", "not json\n", "is damaged"),
        ("config.yaml", "- a\n", "none of `atofx train`"),
        ("config.yaml", "{", "is damaged"),
    ],
)
def test_damaged_files_are_named(digits: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    for file in ("config.yaml", "metrics.jsonl", "mask.json", "result.json"):
        (tmp_path / file).write_bytes((digits / file).read_bytes())
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=message) as caught:
        write_run_report(tmp_path)
    assert name in str(caught.value)


def test_a_report_that_cannot_be_written_says_so(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write"):
        write_run_report(digits, tmp_path / "missing" / "page.html")


def test_a_run_that_diverged_is_shown(digits: Path, tmp_path: Path) -> None:
    for file in ("config.yaml", "metrics.jsonl", "mask.json", "result.json"):
        (tmp_path / file).write_bytes((digits / file).read_bytes())
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    broken = [re.sub(r'"loss": [0-9.e-]+', '"loss": NaN', line) for line in lines]
    (tmp_path / "metrics.jsonl").write_text("\n\n".join(broken), encoding="utf-8")
    (report,) = shown(write_run_report(tmp_path))
    assert [row["loss"] for row in report["epochs"]] == [None] * EPOCHS


def test_a_run_from_before_there_were_other_tasks_is_shown(digits: Path, tmp_path: Path) -> None:
    for file in ("config.yaml", "metrics.jsonl", "mask.json", "result.json"):
        (tmp_path / file).write_bytes((digits / file).read_bytes())
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    scores, words = result.pop("scores"), result.pop("words")
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (report,) = shown(write_run_report(tmp_path))
    assert (report["result"]["scores"], report["result"]["words"]) == (scores, words)
