"""README and CONTRIBUTING tell the truth: examples print what they say, excerpts are in the tree."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import atofx
import atofx.methods

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCS = tuple(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md")))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is an excerpt of (or ""), and its lines."""

    page: str
    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    source = (ROOT / page).read_text(encoding="utf-8")
    pattern = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
    return [Block(page, m[2], m[3] or "", textwrap.dedent(m[4])) for m in pattern.finditer(source)]


def examples() -> list[tuple[Block, Block]]:
    """Python blocks followed by what they print."""
    found = []
    for page in PAGES:
        found += [pair for pair in itertools.pairwise(blocks(page)) if [b.language for b in pair] == ["python", "text"]]
    return found


EXCERPTS = [block for page in PAGES for block in blocks(page) if block.title]


def test_there_is_something_to_check():
    assert {code.page for code, _ in examples()} == {"README.md", "CONTRIBUTING.md"}
    assert len(EXCERPTS) >= 5


@pytest.mark.parametrize(("code", "output"), examples(), ids=lambda block: f"{block.page}-{block.language}")
def test_example_prints_what_the_page_says(code, output, tmp_path):
    script = tmp_path / "example.py"  # a file: custom operations read their own source
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code.text}", encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output.text


@pytest.mark.parametrize("block", EXCERPTS, ids=lambda block: block.title)
def test_excerpt_is_in_the_tree(block):
    source = textwrap.dedent((ROOT / block.title).read_text(encoding="utf-8"))
    wanted = block.text.rstrip()
    indented = textwrap.indent(wanted, "    ")
    assert wanted in source or indented in source, f"{block.page}: no longer in {block.title}"


def test_first_example_of_the_readme_is_short():
    code, _ = next(pair for pair in examples() if pair[0].page == "README.md")
    assert len(code.text.splitlines()) <= 12


def test_the_training_loop_of_the_readme():
    (loop,) = [b for b in blocks("README.md") if b.language == "python" and "atofx.methods.ATO" in b.text]
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3)
    )
    images, labels = torch.randn(8, 8, 1, 8, 8), torch.randint(3, (8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scope = {
        "atofx": atofx,
        "model": model,
        "program": atofx.trace(model, images[0]),
        "loader": list(zip(images, labels, strict=True)),
        "epochs": 4,
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
    }
    exec(loop.text, scope)  # noqa: S102 - the page's own code
    program, mask, small = scope["program"], scope["mask"], scope["small"]
    assert program.flops(mask) / program.flops() == pytest.approx(0.5, abs=0.01)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(images[0]), model.eval()(images[0]))


def table(text: str, first: str) -> list[dict[str, str]]:
    """Rows of the Markdown table whose first column is headed `first`, by column."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    body = itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_measured_table_is_the_recorded_one():
    results = ROOT / "benchmarks/results/accuracy_digits.md"
    shown = table((ROOT / "README.md").read_text(encoding="utf-8"), "method")
    recorded = {row["method"]: row for row in table(results.read_text(encoding="utf-8"), "method")}
    assert {row["method"] for row in shown} == set(recorded)
    for row in shown:
        assert row == {column: recorded[row["method"]][column] for column in row}


@pytest.mark.parametrize("page", PAGES + DOCS)
def test_every_path_named_in_a_page_exists(page):
    source = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:atofx|passes|tests|benchmarks)/[\w./-]*)`", source):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", source):
        assert ((ROOT / page).parent / target).exists(), target
