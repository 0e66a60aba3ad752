"""The data in the page is the program: nothing is missing, and the costs are those of any mask."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx.report.page_data import page_data


def total(terms: list[list[int]], extents: list[int]) -> int:
    return sum(constant * math.prod(extents[factor] for factor in factors) for constant, *factors in terms)


def cost(data: dict, counts: list[int]) -> tuple[int, int]:
    extents = list(data["cost"]["base"])
    for held, count in zip(data["cost"]["held"], counts, strict=True):
        for extent, each in held:
            extents[extent] += each * count
    return total(data["cost"]["flops"], extents), total(data["cost"]["params"], extents)


@pytest.mark.parametrize("keep", [1.0, 0.7, 0.3, 1e-9])
def test_costs_are_those_of_the_program_for_any_mask(program, keep):
    data = page_data(program)
    mask = program.random_mask(keep=keep, seed=3)
    counts = [int(mask[group.name].sum()) for group in program.prunable]
    assert cost(data, counts) == (program.flops(mask), program.params(mask))


def test_prunable_groups_come_first_and_in_order(program):
    data = page_data(program)
    names = [group["name"] for group in data["groups"] if group["prunable"]]
    assert names == [group.name for group in program.prunable]
    assert [group["name"] for group in data["groups"]][: len(names)] == names
    assert len(data["cost"]["held"]) == len(names)


def test_every_node_edge_and_parameter_is_there_once(program):
    data = page_data(program)
    assert [node["id"] for node in data["nodes"]] == list(program.graph)
    assert len(data["edges"]) == program.graph.number_of_edges()
    parameters = [t for t in data["tensors"] if t["parameter"]]
    assert len({t["name"] for t in parameters}) == len(parameters)
    assert sum(math.prod(t["shape"]) for t in parameters) == program.params()
    assert sum(node.get("flops", 0) for node in data["nodes"]) == program.flops()


def test_data_is_json_without_paths_of_this_machine(program):
    text = json.dumps(page_data(program))
    assert json.loads(text) == page_data(program)
    assert "/tests/report" not in text.replace("tests/report/conftest.py", "")
    assert str(atofx.__file__) not in text


def test_members_axes_and_reasons(resnet20):
    data = page_data(resnet20)
    by_name = {node["name"]: node for node in data["nodes"]}
    conv = by_name["layer1.0.conv1"]
    assert conv["op"] == "Conv2d"
    assert conv["module"] == "layer1.0"
    assert conv["shapes"] == [[1, 16, 32, 32]]
    assert conv["params"] == 16 * 16 * 9
    assert conv["source"].startswith("atofx/zoo/resnet.py:")
    (weight,) = [data["tensors"][index] for index in conv["tensors"]]
    assert [(axis["dim"], axis["role"]) for axis in weight["axes"]] == [(0, "producer"), (1, "consumer")]
    pinned = next(group for group in data["groups"] if not group["prunable"])
    assert "reaches the model's output" in pinned["reason"]
    assert "What helps:" in pinned["reason"]
    last = by_name[data["nodes"][-1]["name"]]
    assert any("reaches the model's output" in pin for pin in last["pins"])


class Regions(nn.Module):
    """Control flow on values: only its parts can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        self.head = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x) if float(x.sum()) > -1e9 else x


def test_a_model_traced_in_regions():
    program = atofx.trace(Regions(), torch.randn(3, 4))
    data = page_data(program)
    assert {node.get("module") for node in data["nodes"]} >= {"body", "head"}
    mask = program.random_mask(keep=0.5)
    assert cost(data, [int(mask[g.name].sum()) for g in program.prunable]) == (
        program.flops(mask),
        program.params(mask),
    )
