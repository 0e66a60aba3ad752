"""`atofx compare`: one run a method, kept when the command is called again."""

import json

from atofx.report.run_data import run_data

QUICK = ("--model", "tests.train.nets:Small", "--epochs", "2", "--lr", "0.3", "--latency-batch", "2")


def test_methods_side_by_side(atofx_command, tmp_path):
    out = tmp_path / "all"
    call = ("compare", "--methods", "l2, hesso,l2", "--out", str(out), "--flops", "0.6", *QUICK, "--json")
    result = atofx_command(*call)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert [row["method"] for row in data["runs"]] == ["none", "l2", "hesso"]
    assert [round(row["flops_kept"], 1) for row in data["runs"]] == [1.0, 0.6, 0.6]
    assert data["runs"][0]["epoch_time"] == 1
    for row in data["runs"]:
        assert row["top1"] == run_data(out / row["method"])["result"]["compact_top1"]
    assert "accuracy" in (out / "comparison.html").read_text(encoding="utf-8").lower()

    written = (out / "l2" / "result.json").stat().st_mtime_ns
    again = atofx_command(*call[:2], "hesso,random", *call[3:-1])
    assert again.exit_code == 0, again.stderr
    assert (out / "hesso" / "result.json").exists()
    assert (out / "random" / "result.json").exists()
    assert (out / "l2" / "result.json").stat().st_mtime_ns == written
    lines = again.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["dense", "hesso", "random"]


def test_refusals_come_before_any_run(atofx_command, tmp_path):
    for methods, message in (("l2,ate", "no method 'ate' (did you mean 'ato'?)"), (" , ", "no method to compare")):
        result = atofx_command("compare", "--methods", methods, "--out", str(tmp_path / "out"), *QUICK)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "out").exists()


def test_other_options_in_the_same_folder_are_refused(atofx_command, tmp_path):
    call = ("compare", "--methods", "l2", "--out", str(tmp_path / "out"), *QUICK)
    assert atofx_command(*call).exit_code == 0
    result = atofx_command(*call, "--seed", "3")
    assert result.exit_code == 2
    assert "seed was 0, now 3" in result.stderr
