"""The page in a real browser, opened from a file: loading, search, clicks, keys, sliders, both colour schemes.

Skipped without the Python package playwright, or where its Chromium cannot be started. ``ATOFX_CHROMIUM`` names another
one (``pip install playwright && playwright install chromium`` gets one).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import atofx


@pytest.fixture(scope="module")
def file(resnet20: atofx.Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resnet20.draw(tmp_path_factory.mktemp("page") / "resnet20.html")


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page; nothing may be fetched and nothing may be said on the console."""
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1300, "height": 850})
    page = context.new_page()
    page.set_default_timeout(15_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "blob:")) else said.append(asked.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert said == []


def select(page: Any, name: str) -> None:
    page.fill("#search", name)
    page.press("#search", "Enter")


def where(page: Any, box: str) -> tuple[float, float]:
    page.wait_for_timeout(300)  # until the drawing stands still
    place = page.evaluate("(id) => atofx.page.where(id)", box)
    frame = page.locator("#graph").bounding_box()
    return frame["x"] + place["x"], frame["y"] + place["y"]


def test_it_opens_collapsed_with_all_totals(page: Any, resnet20: atofx.Program) -> None:
    assert 5 < page.evaluate("atofx.page.size().boxes") <= 40
    assert page.get_attribute("#flops", "title") == f"{resnet20.flops():,} multiply-adds, counted once"
    assert page.get_attribute("#params", "title") == f"{resnet20.params():,}"
    assert page.locator("#groups li").count() == len(resnet20.prunable)


def test_search_opens_the_modules_around_what_is_found(page: Any) -> None:
    select(page, "layer2.1.conv1")
    assert "matches" in page.inner_text("#hits")
    details = page.inner_text("#details")
    for text in ("layer2.1.conv1", "Conv2d", "multiply-adds, counted once", "dim 0: producer", "dim 1: consumer"):
        assert text in details
    assert "atofx/zoo/resnet.py:" in details


def test_a_click_selects_and_two_clicks_open(page: Any) -> None:
    page.click("#close")
    closed = page.evaluate("atofx.page.size().boxes")
    x, y = where(page, "module:layer1")
    page.mouse.click(x, y)
    assert page.inner_text("#details h2") == "layer1"
    page.mouse.dblclick(x, y)
    assert page.evaluate("atofx.page.size().boxes") > closed
    assert page.inner_text("#details button >> nth=0") == "Close"


def test_hovering_tells_what_a_box_is(page: Any) -> None:
    page.click("#close")
    page.mouse.move(*where(page, "module:layer1"))
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert "layer1" in tip.inner_text()


def test_keys_alone_reach_everything(page: Any) -> None:
    page.click("#close")
    page.focus("#graph")
    page.keyboard.press("ArrowDown")
    first = page.evaluate("atofx.page.selected()")
    page.keyboard.press("ArrowDown")
    second = page.evaluate("atofx.page.selected()")
    assert first != second
    for _ in range(8):
        if page.evaluate("atofx.page.selected()").startswith("module:"):
            break
        page.keyboard.press("ArrowDown")
    before = page.evaluate("atofx.page.size().boxes")
    page.keyboard.press("Enter")
    assert page.evaluate("atofx.page.size().boxes") > before
    module = page.evaluate("atofx.page.selected()")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("atofx.page.selected()") != module
    page.keyboard.press("Backspace")
    assert page.evaluate("atofx.page.selected()") == module
    assert "module" in page.inner_text("#spoken")
    page.keyboard.press("Escape")
    assert page.evaluate("atofx.page.selected()") is None
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_a_group_shows_all_that_goes_with_it(page: Any, resnet20: atofx.Program) -> None:
    group = resnet20.prunable[0]
    page.click(f"#groups button >> nth={0}")
    assert page.get_attribute("#groups button >> nth=0", "aria-pressed") == "true"
    details = page.inner_text("#details")
    for member in group.members:
        assert f"{member.name}[{member.dim}]" in details
    _, y = where(page, "node:1")  # the first convolution, brought into the middle
    frame = page.locator("#graph").bounding_box()
    assert abs(y - frame["y"] - frame["height"] / 2) < 5
    page.click("text=Open the modules it is in")
    page.click("text=Back to all groups")
    assert page.evaluate("atofx.page.picked()") is None


def test_sliders_show_the_costs_of_the_mask_that_is_saved(page: Any, resnet20: atofx.Program, tmp_path: Path) -> None:
    page.fill("#all", "40")
    page.fill("#groups input >> nth=2", "3")
    with page.expect_download() as download:
        page.click("#save")
    target = tmp_path / "mask.json"
    download.value.save_as(target)
    mask = atofx.Mask.load(target)
    assert int(mask[resnet20.prunable[2].name].sum()) == 3
    assert page.get_attribute("#flops", "title") == f"{resnet20.flops(mask):,} multiply-adds, counted once"
    assert page.get_attribute("#params", "title") == f"{resnet20.params(mask):,}"
    page.click("#reset")
    assert page.get_attribute("#params", "title") == f"{resnet20.params():,}"


def test_sizes_can_be_shown_and_everything_opened_and_closed(page: Any, resnet20: atofx.Program) -> None:
    page.check("#sizes")
    page.click("#every")
    count = "atofx.page.data.nodes.every((_, i) => atofx.page.where(`node:${i}`) !== undefined)"
    assert page.evaluate(count)
    page.click("#level")
    page.click("#fit")
    page.click("#close")
    assert page.evaluate("atofx.page.size().boxes") < len(resnet20.graph) / 2


def test_a_notebook_frame_works_without_any_rights(browser: Any, resnet20: atofx.Program, tmp_path: Path) -> None:
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!doctype html><meta charset=utf-8>{resnet20._repr_html_()}", encoding="utf-8")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(outer.as_uri())
    page.frame_locator("iframe").locator("#groups li").first.wait_for()
    page.close()
    assert errors == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b7", "swin_t"])
def test_large_models_open_in_two_seconds(browser: Any, name: str, tmp_path: Path) -> None:
    program = atofx.trace(getattr(torchvision.models, name)(), torch.randn(1, 3, 224, 224))
    file = program.draw(tmp_path / f"{name}.html")
    page = browser.new_page()
    start = time.perf_counter()
    page.goto(file.as_uri())
    assert page.evaluate("atofx.page.size().boxes") > 5
    opened = time.perf_counter() - start
    page.click("#every")
    assert page.evaluate("atofx.page.size().boxes") > 150
    total = time.perf_counter() - start
    page.close()
    print(json.dumps({"model": name, "nodes": len(program.graph), "opened": opened, "all open": total - opened}))  # noqa: T201
    assert opened < 2
    assert total < 10
