"""Programs to draw, and a way to run the page's own scripts."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx import zoo
from atofx.report.page_html import page_html
from atofx.train import run
from atofx.train.config import TrainConfig
from atofx.train.result import RunResult

# Every script of the page but those that draw and make elements, as node runs it.
RUN = """
const page = require("fs").readFileSync(0, "utf8");
const script = (name) => page.match(new RegExp(`<script id="${name}">\\n([^]*?)\\n</script>`))[1];
const scripts = ["cost", "mask", "format", "colours", "hierarchy", "layout", "search"];
for (const name of scripts) (0, eval)(script(`atofx-${name}`));
globalThis.dagre = (0, eval)(`${script("dagre.min.js")}; dagre`);
const data = JSON.parse(page.match(/<script type="application\\/json" id="data">([^]*?)<\\/script>/)[1]);
const { cost, mask, format, colours, hierarchy, layout, search } = globalThis.atofx;
const input = JSON.parse(process.argv[1]);
const result = (() => { %s })();
console.log(JSON.stringify(result));
"""


class Attention(nn.Module):
    """Heads, shared shapes and a value on which sizes are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.attn = nn.MultiheadAttention(12, 3, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attn(x, x, x)[0]
        x = x + self.mlp(x)
        return self.head(x.reshape(x.shape[0], x.shape[1] * x.shape[2] // 12, 12).mean(1))


class Grouped(nn.Module):
    """A unit that holds several coordinates of an axis, and nothing below modules."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=4), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def resnet() -> atofx.Program:
    return atofx.trace(zoo.resnet20(), torch.randn(1, 3, 32, 32))


MAKERS: dict[str, Callable[[], atofx.Program]] = {
    "resnet20": resnet,
    "attention": lambda: atofx.trace(Attention(), torch.randn(2, 5, 6)),
    "grouped": lambda: atofx.trace(Grouped(), torch.randn(1, 3, 8, 8)),
    "export": lambda: atofx.trace(Grouped(), torch.randn(1, 3, 8, 8), frontend="export"),
    "nothing prunable": lambda: atofx.trace(nn.Linear(3, 2), torch.randn(1, 3)),
}


@pytest.fixture(scope="session", params=MAKERS)
def program(request) -> atofx.Program:
    torch.manual_seed(0)
    return MAKERS[request.param]()


@pytest.fixture(scope="session")
def resnet20() -> atofx.Program:
    torch.manual_seed(0)
    return resnet()


@pytest.fixture
def in_page() -> Callable[..., Any]:
    """`in_page(program, "return data.model", {...})`: what JavaScript with the page's scripts makes of `input`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")

    def run(program: atofx.Program, code: str, value: object = None) -> Any:
        command = [node, "-e", RUN % code, json.dumps(value)]
        page = page_html(program)
        done = subprocess.run(command, input=page, capture_output=True, text=True, check=False, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def embedded(page: str) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. Skips without the Python package playwright, or where it starts none; ``ATOFX_CHROMIUM`` names one."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        own = os.environ.get("ATOFX_CHROMIUM")
        try:
            started = playwright.chromium.launch(executable_path=own, args=["--no-sandbox", "--disable-gpu"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium can be started: {error.message.splitlines()[0]}")
        yield started
        started.close()


#: Of the runs that are reported.
EPOCHS = 5


def train(folder: Path, **options: Any) -> RunResult:
    quick = {"model": "tests.train.nets:Small", "epochs": EPOCHS, "lr": 0.3, "latency_batch": 2}
    return run(TrainConfig.parse({**quick, "out": str(folder), **options}))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ato <b>"
    train(folder, baseline=True, eval_every=2)
    return folder


@pytest.fixture(scope="session")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uniform"
    train(folder, method="l2", flops=0.6)
    return folder
