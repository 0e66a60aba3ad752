"""Reports in a real browser: every drawing is there, the tables hold the figures, nothing is said on the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atofx.report.run_data import run_data
from atofx.report.run_report import write_comparison

SECTIONS = ["outcome", "accuracy", "flops", "widths", "evolution", "latency", "verification", "layers", "configuration"]


def opened(browser: Any, file: Path, scheme: str, said: list[str]) -> Any:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1250, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "blob:")) else said.append(asked.url))
    page.goto(file.as_uri())
    return page


def rows(page: Any, section: str) -> list[list[str]]:
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    return page.eval_on_selector_all(f"#{section} tbody tr", cells)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_of_a_run(browser: Any, digits: Path, scheme: str) -> None:
    said: list[str] = []
    page = opened(browser, digits / "report.html", scheme, said)
    data = run_data(digits)
    assert page.eval_on_selector_all("main > section", "all => all.map(one => one.id)") == SECTIONS
    drawn = page.eval_on_selector_all(
        "main figure svg", "all => all.filter(one => one.querySelector('path, rect, line'))"
    )
    assert len(drawn) >= 6
    assert [row[1] for row in rows(page, "accuracy")] == [f"{row['accuracy']:.2f} %" for row in data["epochs"]]
    assert [row[1] for row in rows(page, "flops")] == [f"{100 * row['flops']:.1f} %" for row in data["epochs"]]
    assert [row[:3] for row in rows(page, "widths")] == [
        [group["name"], str(group["units"]), str(group["kept"])] for group in data["groups"]
    ]
    assert [[f"{100 * share:.1f} %" for share in shares] for shares in data["masks"]["kept"]] == [
        row[1:] for row in rows(page, "evolution")
    ]
    assert len(rows(page, "layers")) == len(data["result"]["layers"])
    assert "✓" in page.text_content("#verification")
    page.focus("#widths summary")
    page.keyboard.press("Enter")
    assert page.is_visible("#widths table")
    assert said == []


def test_runs_side_by_side(browser: Any, digits: Path, uniform: Path, tmp_path: Path) -> None:
    said: list[str] = []
    page = opened(browser, write_comparison([digits, uniform], tmp_path / "both.html"), "light", said)
    results = [run_data(folder)["result"] for folder in (digits, uniform)]
    assert [(row[0], row[5]) for row in rows(page, "outcome")] == [
        (name, f"{result['compact_top1']:.2f} %") for name, result in zip(("ato <b>", "uniform"), results, strict=True)
    ]
    assert page.eval_on_selector_all("#tradeoff svg [aria-label=dot] *", "all => all.length") == 2
    assert said == []
