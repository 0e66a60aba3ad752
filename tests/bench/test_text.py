"""The page and the warnings, from given samples."""

import json
import re

import pytest

from atofx.bench import Comparison, LayerTime, Setting, Side
from atofx.bench.files import PLOT, REPORT, write
from atofx.bench.machine import Machine
from atofx.bench.report import Amounts, BenchReport
from atofx.bench.text import bench_text, warnings_of
from atofx.errors import FileError


def machine(load: float | None = 0.0) -> Machine:
    return Machine("A processor", 2, 1, load, "2.6.0", "3.11.0", "cpu")


def side(*seconds: float, deviation: float = 0.0) -> Side:
    return Side(seconds, 4, moved=2_000_000, peak=30_000, deviation=deviation)


def report(compact: Side, load: float | None = 0.0) -> BenchReport:
    layers = (
        LayerTime("conv", "Conv2d", 4e-4, 2e-4),
        LayerTime("fc", "Linear", 3e-4, 3e-4),
        LayerTime("r", "", 0.0, 1e-4),
    )
    one = Comparison(Setting(batch=4), side(0.001, 0.002, 0.003), compact)
    return BenchReport(machine(load), Amounts(1000, 90, 400), Amounts(500, 30, 200), (one,), layers)


def words(text: str) -> str:
    return re.sub(r" +", " ", text)


def test_the_page():
    text = words(bench_text(report(side(0.0005, 0.001, 0.003)), "net", most_layers=1))
    assert text.startswith("net\nA processor (2 cores), 1 CPU thread, torch 2.6.0, load 0.0 before\n")
    assert "FLOPs 1.00 k 500 50.0 %" in text
    assert "eager, float32, contiguous 4 2.00 (1.50-2.50) 1.00 (0.75-2.00) 2.00 (1.50-2.00) 1.00" in text
    assert "Median (quartiles) of 3 passes of each" in text
    assert "multiply-adds counted once" in text
    assert "eager, float32, contiguous 4 2.00 k 4.00 k 30.00 kB 30.00 kB 2.00 MB 2.00 MB" in text
    assert "fc Linear 300 300 100.0 % 150\n(the other 2) 400 300 75.0 % 100\n(all) 700 600 85.7 % 250" in text
    assert max(map(len, text.splitlines())) <= 120


def test_layers_can_be_left_out():
    assert "Where the rest goes" not in bench_text(report(side(0.001, 0.001, 0.001)), "net", most_layers=0)


def test_warnings():
    assert warnings_of(report(side(0.0005, 0.001, 0.001))) == []
    (slow,) = warnings_of(report(side(0.002, 0.004, 0.006)))
    assert "does not pay in the setting eager, batch 4, float32, contiguous" in slow
    assert "compact takes 2.00 times as long as dense (quartiles 2.00 to 2.00)" in slow
    (wrong,) = warnings_of(report(side(0.0005, 0.001, 0.001, deviation=float("inf"))))
    assert "results differ by inf (relative) from eager float32" in wrong
    (busy,) = warnings_of(report(side(0.0005, 0.001, 0.001), load=3.0))
    assert "the machine is busy (load 3.0 on 2 cores)" in busy
    assert warnings_of(report(side(0.0005, 0.001, 0.001), load=None)) == []


def test_as_json():
    data = json.loads(json.dumps(report(side(0.0005, 0.001, 0.003)).to_dict()))
    (row,) = data["comparisons"]
    assert row["setting"]["batch"] == 4
    assert row["speedup"] == {"lower": 1.5, "median": 2.0, "upper": 2.0}
    assert row["realised"] == 1.0
    assert row["dense"]["seconds"] == [0.001, 0.002, 0.003]
    assert row["dense"]["latency"]["median"] == 0.002
    assert data["layers"][1]["lost"] == pytest.approx(1.5e-4)
    assert data["flops_unit"] == "fused multiply-adds"


def test_the_folder(tmp_path):
    pytest.importorskip("matplotlib")
    found = report(side(0.0005, 0.001, 0.003))
    assert write({"a": 1}, found, tmp_path / "new" / "folder", "net")
    assert json.loads((tmp_path / "new" / "folder" / REPORT).read_text()) == {"a": 1}
    assert (tmp_path / "new" / "folder" / PLOT).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make the folder"):
        write({}, found, tmp_path / "file", "net")
