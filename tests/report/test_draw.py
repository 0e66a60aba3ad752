"""`Program.draw`: every suffix, what is said where something is missing, and a page that needs nothing else."""

import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import atofx
from atofx.errors import ConfigError, FileError, MissingError
from tests.report.conftest import embedded

ROOT = Path(__file__).resolve().parents[2]


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these packages were not installed."""
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name.partition(".")[0] in packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


def test_html_is_one_file_that_names_no_other(program, tmp_path):
    path = program.draw(tmp_path / "model.html")
    assert path == tmp_path / "model.html"
    assert list(tmp_path.iterdir()) == [path]
    page = path.read_text(encoding="utf-8")
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=|@import|url\(", outside_scripts)
    assert "sourceMappingURL" not in page
    assert "default-src 'none'" in page
    assert embedded(page)["format"] == "atofx-graph/1"


def test_the_page_carries_the_licences_of_its_libraries(resnet20, tmp_path):
    page = resnet20.draw(tmp_path / "model.html").read_text(encoding="utf-8")
    for words in ("The Cytoscape Consortium", "Chris Pettitt", "Permission is hereby granted"):
        assert words in page


def test_the_page_says_how_flops_are_counted(resnet20, tmp_path):
    page = resnet20.draw(tmp_path / "model.html").read_text(encoding="utf-8")
    assert "FLOPs (multiply-adds, counted once)" in page


def test_names_cannot_break_the_page(tmp_path):
    net = nn.Sequential()
    net.add_module("</script><b>&'", nn.Linear(3, 4))
    net.add_module("last", nn.Linear(4, 2))
    page = atofx.trace(net, torch.randn(1, 3)).draw(tmp_path / "odd.html").read_text(encoding="utf-8")
    assert "</script><b>" not in page
    assert any("</script><b>&'" in group["name"] for group in embedded(page)["groups"])


def test_a_notebook_shows_the_page_in_a_frame(resnet20):
    text = resnet20._repr_html_()
    assert text.startswith("<iframe srcdoc=")
    assert "allow-same-origin" not in text
    assert text.count("<iframe") == 1
    assert '"' not in re.search(r'srcdoc="(.*?)" title=', text, re.DOTALL)[1]


def test_another_suffix(resnet20, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot draw to .*model\.pdf.*: the name must end in one of \.html, \.svg"):
        resnet20.draw(tmp_path / "model.pdf")


def test_dot_holds_modules_groups_and_shapes(resnet20, tmp_path):
    pytest.importorskip("graphviz", reason="the Python package graphviz is not installed")
    text = resnet20.draw(tmp_path / "model.dot").read_text(encoding="utf-8")
    assert text.startswith("digraph")
    assert 'subgraph "cluster_layer1.0"' in text
    assert "1×16×32×32" in text
    assert "Conv2d #1" in text
    assert "FLOPs (multiply-adds, counted once)" in text


def test_dot_without_graphviz(resnet20, tmp_path, monkeypatch):
    hide(monkeypatch, "graphviz")
    with pytest.raises(MissingError, match=r"pip install 'atofx\[draw\]'"):
        resnet20.draw(tmp_path / "model.dot")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_pictures_without_the_program_dot(program, tmp_path, monkeypatch, suffix, start):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr("shutil.which", lambda name: None)
    content = program.draw(tmp_path / f"model.{suffix}").read_bytes()
    assert content.startswith(start)
    assert suffix != "svg" or b"<path" in content


def test_pictures_without_anything(resnet20, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    hide(monkeypatch, "matplotlib", "graphviz")
    with pytest.raises(MissingError, match=r"\.png needs Graphviz .*pip install 'atofx\[draw\]'.*or matplotlib"):
        resnet20.draw(tmp_path / "model.png")


def test_svg_by_graphviz(resnet20, tmp_path):
    pytest.importorskip("graphviz", reason="the Python package graphviz is not installed")
    if subprocess.run(["which", "dot"], capture_output=True, check=False).returncode:
        pytest.skip("the program dot is not installed")
    assert b"layer1.0" in resnet20.draw(tmp_path / "model.svg").read_bytes()


def test_tracing_and_pruning_do_not_load_the_report():
    code = (
        "import sys, torch, atofx; p = atofx.trace(torch.nn.Linear(2, 2), torch.randn(1, 2)); "
        "p.compact(p.full_mask()); "
        "raise SystemExit(any(name.startswith('atofx.report') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_folder_that_is_missing_is_named(resnet20, tmp_path):
    with pytest.raises(FileError, match=r"cannot write '.*page\.html': No such file or directory"):
        resnet20.draw(tmp_path / "missing" / "page.html")
