"""Networks that TAS has published: files are read, networks built, and their FLOPs are those the files state."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import atofx
from atofx import zoo
from atofx.errors import ConfigError
from atofx.train.models import resolve_model
from atofx.train.searched_file import SearchedShape, read_searched
from atofx.zoo.searched_resnet import SearchedBlock

FILES = Path(__file__).with_name("searched")


def millions(program: atofx.Program) -> float:
    """Multiply-adds of convolutions and the classifier: what the files count."""
    return sum(cost.flops for cost in program.layer_costs() if cost.op in ("Conv2d", "Linear")) / 1e6


def stated_millions(shape: SearchedShape) -> float:
    """The files' own count: a stage is counted as if it read the last block listed before it, whether it is there."""
    total, width, side = 9 * 3 * shape.stem * 32 * 32, shape.stem, 32
    for number, (stage, count) in enumerate(zip(shape.stages, shape.blocks, strict=True)):
        for i, widths in enumerate(stage[:count]):
            before = side
            side = side // 2 if number and not i else side
            kernels, sides = ((9, 9), (side, side)) if len(widths) == 2 else ((1, 9, 1), (before, side, side))
            inputs = (width, *widths[:-1])
            total += sum(k * a * b * s * s for k, a, b, s in zip(kernels, inputs, widths, sides, strict=True))
            if side != before or width != widths[-1]:
                total += width * widths[-1] * side * side
            width = widths[-1]
        width = stage[-1][-1]
    return (total + width * shape.classes) / 1e6


@pytest.mark.parametrize(
    ("name", "blocks", "stated", "built"),
    [
        ("c10-resnet20", (3, 3, 3), 22.444472, 22.444472),
        ("c10-resnet32", (5, 5, 5), 34.945344, 34.945344),
        ("c10-resnet56", (5, 5, 5), 57.93305, 59.85843),  # blocks are cut: stages read the last one that is there
        ("c10-resnet164", (13, 15, 13), 173.023672, 178.071224),
    ],
)
def test_flops_of_published_networks(name: str, blocks: tuple[int, ...], stated: float, built: float) -> None:
    shape = read_searched(FILES / f"{name}.json")
    assert shape.blocks == blocks
    assert shape.stated == stated
    assert stated_millions(shape) == pytest.approx(stated, abs=1e-6)
    program = atofx.trace(shape.build(), torch.zeros(1, 3, 32, 32))
    assert millions(program) == pytest.approx(built, abs=1e-6)


def test_a_published_network_runs_and_can_be_pruned() -> None:
    model = resolve_model(f"tas:{FILES / 'c10-resnet20.json'}", 7, 1)
    assert isinstance(model, zoo.SearchedResNet)
    program = atofx.trace(model.eval(), torch.randn(2, 1, 8, 8))
    assert program.module(torch.randn(2, 1, 8, 8)).shape == (2, 7)
    assert program.verify(program.random_mask(0.5)).ok


@pytest.mark.parametrize(
    ("in_channels", "widths", "stride", "parts"),
    [
        (4, (8, 4), 1, []),
        (4, (8, 6), 1, ["Conv2d", "BatchNorm2d"]),
        (4, (8, 4), 2, ["AvgPool2d", "Conv2d"]),
        (4, (2, 2, 6), 1, ["Conv2d"]),
    ],
)
def test_shortcuts(in_channels: int, widths: tuple[int, ...], stride: int, parts: list[str]) -> None:
    block = SearchedBlock(in_channels, widths, stride)
    own = [type(module).__name__ for module in block.shortcut.modules() if not list(module.children())]
    assert own == (parts or ["Identity"])
    assert block(torch.zeros(1, in_channels, 8, 8)).shape == (1, widths[-1], 8 // stride, 8 // stride)


SMALL: dict[str, Any] = {"module": "ResNetBasicblock", "xchannels": [3, 4, *range(1, 7)]}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**SMALL, **changes}), encoding="utf-8")
    return path


def test_plain_values_and_what_may_be_missing(tmp_path: Path) -> None:
    shape = read_searched(write(tmp_path / "net.json"))
    assert shape == SearchedShape(4, (((1, 2),), ((3, 4),), ((5, 6),)), (1, 1, 1), 10, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "ResNet"}, "module is 'ResNet', not ResNetBasicblock or ResNetBottleneck"),
        ({"xchannels": [3, 4, 5]}, "xchannels has 1 widths of blocks, not a multiple of 6"),
        ({"depth": ["int", "20"]}, "depth is 20, but xchannels has 8 entries"),
        ({"xblocks": [1, 2, 1]}, r"xblocks is \[1, 2, 1\]; of each of three stages 1 to 1 blocks are there"),
        ({"xchannels": ["int", ["3", "x"]]}, "invalid literal"),
    ],
)
def test_files_that_describe_no_network(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_searched(write(tmp_path / "net.json", **changes))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the searched network"):
        resolve_model(f"tas:{tmp_path / 'nothing.json'}", 10)
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ConfigError, match="it holds a list"):
        read_searched(tmp_path / "list.json")
    (tmp_path / "empty.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="it lacks 'module'"):
        read_searched(tmp_path / "empty.json")
