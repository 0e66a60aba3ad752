"""How soon does the drawn page of a model answer, in Chromium?

    ATOFX_CHROMIUM=/usr/bin/chromium python -m benchmarks.page      # writes benchmarks/results/page.{json,md}

Every page is opened from a file, five times in a fresh context; then it is searched, a group is picked, its slider is
moved (FLOPs must fall), and all modules are opened. Anything said on the console, or fetched, is a failure. Needs the
Python packages playwright and transformers, and a Chromium.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from playwright.sync_api import Browser, Page, sync_playwright

import atofx
from benchmarks import record

MODELS = ("resnet50", "densenet121", "efficientnet_b7", "swin_t", "bert")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WANTED_SECONDS = 2.0
_TIMES = 5


def main() -> int:
    """Draw, open, use, write."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("ATOFX_CHROMIUM"), args=FLAGS)
        for name in MODELS:
            file = program(name).draw(Path(folder) / f"{name}.html")
            rows.append({"model": name, "bytes": file.stat().st_size, **used(browser, file)})
            print(rows[-1], flush=True)
        version = browser.version
        browser.close()
    cells = [
        (
            row["model"],
            str(row["boxes"]),
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['open_seconds']:.2f}",
            f"{row['every_seconds']:.2f}",
            "; ".join(row["said"]) or "none",
        )
        for row in rows
    ]
    header = ("model", "operations", "MB", "opens in s", "all modules open in s", "faults")
    result = {**record.circumstances("torchvision", "playwright"), "chromium": version, "rows": rows}
    print(record.write("page", result, record.markdown(header, cells)))
    return 0 if all(row["open_seconds"] <= WANTED_SECONDS and not row["said"] for row in rows) else 1


def program(name: str) -> atofx.Program:
    """A traced model with random weights."""
    torch.manual_seed(0)
    if name != "bert":
        return atofx.trace(torchvision.models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224))
    from transformers import BertConfig, BertModel

    tokens = torch.randint(1000, (1, 32))
    return atofx.trace(BertModel(BertConfig(vocab_size=1000)).eval(), {"input_ids": tokens})


def used(browser: Browser, file: Path) -> dict[str, Any]:
    """Open the page and use it."""
    seconds = []
    said: list[str] = []
    for turn in range(_TIMES):
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(("file:", "blob:")) else said.append(asked.url))
        began = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("#graph canvas")
        page.wait_for_function("document.getElementById('flops').textContent !== ''")
        seconds.append(time.perf_counter() - began)
        if turn + 1 == _TIMES:
            found = _use(page, said)
        context.close()
    return {"open_seconds": round(statistics.median(seconds), 3), "said": said, **found}


def _use(page: Page, said: list[str]) -> dict[str, Any]:
    page.fill("#search", "e")
    if page.locator("#found li").count() == 0:
        said.append("the search finds nothing")
    page.locator("#groups button").first.click()
    if page.locator("#details h2").count() == 0:
        said.append("a group shows no details")
    before = page.text_content("#flops")
    slider = page.locator("#groups input[type=range]").first
    slider.focus()
    slider.press("Home")
    if page.text_content("#flops") == before:
        said.append("a slider changes nothing")
    began = time.perf_counter()
    page.click("#every")
    page.wait_for_timeout(0)
    every = time.perf_counter() - began
    boxes = page.evaluate("JSON.parse(document.getElementById('data').textContent).nodes.length")
    return {"every_seconds": round(every, 3), "boxes": boxes}


if __name__ == "__main__":
    sys.exit(main())
