"""`program.graph`: every call with all that is known of it."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

import atofx


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.Sequential(Block(), Block())
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x)) * self.scale
        left, right = x.chunk(2, 1)
        return self.head(torch.cat([left, right], 1).mean((2, 3)))


@pytest.fixture(scope="module", params=["symbolic", "export"])
def program(request) -> atofx.Program:
    torch.manual_seed(0)
    return atofx.trace(Net(), torch.randn(1, 3, 6, 6), frontend=request.param)


def line_of(text: str, thing: object) -> int:
    lines, start = inspect.getsourcelines(thing)  # type: ignore[arg-type]
    return start + next(i for i, line in enumerate(lines) if text in line)


def test_qualified_names_and_modules(program: atofx.Program) -> None:
    nodes = program.graph.nodes
    assert nodes["blocks_0_conv"]["name"] == "blocks.0.conv"
    assert nodes["blocks_0_conv"]["module"] == "blocks.0"
    assert nodes["scale"]["name"] == "scale"
    assert nodes["scale"]["kind"] == "get_attr"
    relus = [n for n in nodes.values() if n["op"].endswith("relu")]
    assert [n["module"] for n in relus] == ["blocks.0", "blocks.1"]
    assert nodes["stem"]["module"] == ""


def test_axes_have_roles_and_groups(program: atofx.Program) -> None:
    tensors = {t.name: t for t in program.graph.nodes["blocks_1_conv"]["tensors"]}
    weight = tensors["blocks.1.conv.weight"]
    assert weight.parameter
    assert weight.shape == (8, 8, 3, 3)
    assert {(a.dim, a.role) for a in weight.axes} == {(0, "producer"), (1, "consumer")}
    assert [sum(a.held for a in weight.axes if a.dim == dim) for dim in (0, 1)] == [8, 8]  # in two groups: the chunks
    assert {a.group for t in tensors.values() for a in t.axes} <= {g.name for g in program.groups}


def test_costs_add_up(program: atofx.Program) -> None:
    nodes = program.graph.nodes
    assert sum(n["flops"] for n in nodes.values()) == program.flops()
    assert sum(n["params"] for n in nodes.values()) == program.params()  # nothing is shared here
    assert nodes["stem"]["params"] == 3 * 8 + 8


def test_shapes_of_results_and_edges(program: atofx.Program) -> None:
    graph = program.graph
    chunk = next(key for key, node in graph.nodes.items() if len(node["shapes"]) == 2)
    assert graph.nodes[chunk]["shape"] is None
    assert graph.nodes[chunk]["shapes"] == ((1, 4, 6, 6), (1, 4, 6, 6))
    assert graph.edges["stem", "blocks_0_conv"]["shapes"] == ((1, 8, 6, 6),)


def test_pins_say_why_and_what_helps(program: atofx.Program) -> None:
    (pin,) = program.graph.nodes["head"]["pins"]
    assert pin.startswith("reaches the model's output")
    assert "What helps:" in pin
    assert program.graph.nodes["stem"]["pins"] == ()  # the three colours of the image are no channels


def test_source_lines(program: atofx.Program) -> None:
    nodes = program.graph.nodes
    assert nodes["blocks_0_conv"]["source"] == (__file__, line_of("torch.relu(", Block))
    assert nodes["stem"]["source"] == (__file__, line_of("self.stem(x)", Net))
    assert nodes["x"]["source"] is None


def test_no_source_where_only_torch_calls() -> None:
    program = atofx.trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(1, 3))
    assert {node["source"] for node in program.graph.nodes.values()} == {None}
