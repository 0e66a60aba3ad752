"""The Program's own promises that need no special net: groups, masks, costs, gates, maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import atofx
from atofx import zoo
from atofx.errors import MaskError, VerifyError
from atofx.passes.trace import Frontend
from atofx.testing import assert_exact, relative_error


class Net(nn.Module):
    """Two convolutions with a residual, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.back = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)
        self.spare = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.back(torch.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def program() -> atofx.Program:
    torch.manual_seed(0)
    return atofx.trace(Net().eval(), torch.randn(2, 3, 6, 6))


def test_resnet18_has_the_papers_groups() -> None:
    program = atofx.trace(torchvision.models.resnet18(), torch.randn(1, 3, 64, 64))
    assert len(program.prunable) == 12
    assert sum(group.size for group in program.prunable) == 2880


def test_groups_roles_and_names(program: atofx.Program) -> None:
    assert {g.name: g.size for g in program.prunable} == {"stem": 8, "inner": 6}
    roles = {f"{m.name}[{m.dim}]": m.role for m in program.prunable[0].members}
    assert roles == {
        "stem.weight[0]": "producer",
        "stem.bias[0]": "producer",
        "norm.weight[0]": "producer",
        "norm.bias[0]": "producer",
        "norm.running_mean[0]": "consumer",
        "norm.running_var[0]": "consumer",
        "inner.weight[1]": "consumer",
        "back.weight[0]": "producer",
        "back.bias[0]": "producer",
        "head.weight[1]": "consumer",
    }
    for group in program.groups:
        assert group.prunable == (group.reason is None)


class Distances(nn.Module):
    """Distances to anchors, which no record describes, and a layer that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors, self.read = nn.Parameter(torch.randn(5, 4)), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(torch.cdist(x, self.anchors))


def test_explain_names_operations_without_a_record_that_read_a_tensor_or_feed_its_layer() -> None:
    program = atofx.trace(Distances(), torch.randn(3, 4))
    assert "  read by cdist: no record describes cdist" in program.explain("anchors")
    assert "  its layer reads what cdist makes: no record describes cdist" in program.explain("read.weight")
    assert "atofx.register_op (CONTRIBUTING.md" in program.explain("anchors").splitlines()[-1]


def test_explain(program: atofx.Program) -> None:
    assert "group 'stem' (8 units), producer" in program.explain("stem.weight")
    assert "reaches the model's output" in program.explain("head.weight")
    assert "What helps" in program.explain("head.weight")
    assert "not used" in program.explain("spare.weight")
    assert "scalar" in program.explain("norm.num_batches_tracked")
    with pytest.raises(KeyError, match=r"stem\.weight"):
        program.explain("stem.weigh")
    with pytest.raises(KeyError, match=r"close: stem\.weight"):
        program.explain("stem.weigth")
    with pytest.raises(KeyError, match=r"a group has this name, which holds stem\.weight"):
        program.explain("stem")


def test_summary_lists_groups_pins_and_unused(program: atofx.Program) -> None:
    text = program.summary()
    assert "14 prunable units in 2 groups" in text
    assert "multiply-adds" in text
    assert "spare.weight" in text


def test_graph(program: atofx.Program) -> None:
    graph = program.graph
    assert graph.nodes["stem"]["groups"] == ("stem",)
    assert graph.nodes["stem"]["shape"] == (2, 8, 6, 6)
    assert graph.nodes["stem"]["flops"] == 2 * 36 * 27 * 8
    assert graph.has_edge("stem", "norm")


def test_flops_by_hand(program: atofx.Program) -> None:
    mask = {"stem": torch.arange(8) < 4, "inner": torch.arange(6) < 2}
    pixels = 2 * 36
    by_hand = pixels * (27 * 4 + 9 * 4 * 2 + 9 * 2 * 4) + 2 * pixels * 4 + 2 * 4 * 2  # convs, norm (2 a value), head
    assert program.flops(mask) == by_hand
    params = (27 + 1) * 4 + 2 * 4 + (9 * 4 + 1) * 2 + (9 * 2 + 1) * 4 + (4 + 1) * 2
    assert program.params(mask) == params


def test_soft_masks_are_differentiable(program: atofx.Program) -> None:
    soft = {g.name: torch.full((g.size,), 0.5, requires_grad=True) for g in program.prunable}
    cost = program.flops(soft)
    assert cost.dtype == torch.float64
    cost.backward()
    for vector in soft.values():
        assert vector.grad is not None
        assert bool((vector.grad > 0).all())
    hard = {g.name: torch.ones(g.size) for g in program.prunable}
    assert program.flops(hard).item() == program.flops()


def test_random_mask(program: atofx.Program) -> None:
    assert program.random_mask(0.5).kept == {"stem": 4, "inner": 3}
    assert program.random_mask(0.01).kept == {"stem": 1, "inner": 1}
    assert program.random_mask(0.6, round_to=4).kept == {"stem": 4, "inner": 4}  # 6 channels are less than twice 4
    assert program.random_mask(0.5, seed=1) == program.random_mask(0.5, seed=1)
    assert program.random_mask(0.5, seed=1) != program.random_mask(0.5, seed=2)
    for keep, round_to in ((0.0, 1), (1.5, 1), (0.5, 0)):
        with pytest.raises(MaskError):
            program.random_mask(keep, round_to=round_to)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": torch.ones(7, dtype=torch.bool)}, "8 units"),
        ({"nobody": torch.ones(3, dtype=torch.bool)}, "nobody"),
        ({"stem": torch.zeros(8, dtype=torch.bool)}, "nothing of stem"),
        ({"stem": torch.full((8,), 0.5)}, "other than 0 and 1"),
    ],
)
def test_masks_that_do_not_fit(program: atofx.Program, change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        program.compact(dict(program.full_mask()) | change)


def test_mask_must_cover_all_groups(program: atofx.Program) -> None:
    with pytest.raises(MaskError, match="lacks the groups inner"):
        program.zeroed({"stem": torch.ones(8, dtype=torch.bool)})


def test_gradients_reach_soft_gates(program: atofx.Program) -> None:
    gated = program.gated()
    soft = {"stem": torch.full((8,), 0.7, requires_grad=True)}
    gated.set_mask(soft)
    gated(torch.randn(2, 3, 6, 6)).sum().backward()
    assert soft["stem"].grad is not None
    assert bool(soft["stem"].grad.abs().sum() > 0)
    with pytest.raises(MaskError, match="nobody"):
        gated.set_mask({"nobody": torch.ones(2)})
    with pytest.raises(MaskError, match="8 units"):
        gated.set_mask({"stem": torch.ones(2)})


def test_gated_shares_parameters_and_can_be_copied(program: atofx.Program) -> None:
    import copy

    gated = program.gated(program.random_mask())
    assert gated.get_parameter("stem.weight") is program.tensor("stem.weight")
    assert not any("gate" in key for key in gated.state_dict())
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(copy.deepcopy(gated)(x), gated(x))


def test_state_dict_map_carries_a_checkpoint_over(program: atofx.Program) -> None:
    mask = program.random_mask(seed=3)
    small = program.compact(mask)
    mapped = {}
    for old, entry in program.state_dict_map(mask).items():
        if entry.key is None:
            continue
        tensor = program.tensor(old)
        for dim, index in enumerate(entry.kept):
            tensor = tensor if index is None else tensor.index_select(dim, index)
        mapped[entry.key] = tensor
    small.load_state_dict(mapped)
    assert program.state_dict_map(mask)["spare.weight"].key is None


def test_assert_exact_fails_where_results_differ(program: atofx.Program) -> None:
    assert assert_exact(program, program.random_mask()).ok
    with pytest.raises(VerifyError, match="relative error"):
        assert_exact(program, program.random_mask(), tol=-1.0)
    assert relative_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])) == 0.5


class CastsInside(nn.Module):
    """Makes a float32 map of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = torch.arange(x.shape[1]).float() / 3
        return self.out(self.wide(x.float() * scale).relu())


def test_verify_is_exact_where_a_bias_takes_up_a_constant() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    program = atofx.trace(model, torch.randn(5, 4))
    mask = program.random_mask()
    assert not mask["0"].all()
    assert program.verify(mask).ok
    assert program.compact(mask)(torch.randn(5, 4)).dtype == torch.float32


def test_verify_widens_casts_in_the_gated_module_too() -> None:
    torch.manual_seed(0)
    program = atofx.trace(CastsInside(), torch.randn(5, 4))
    assert program.verify(program.random_mask()).error < 1e-14


def test_costs_are_the_same_inside_the_callers_own_modes() -> None:
    """Torch's FLOP counter sees operations before the tracer under fvcore would."""
    model = zoo.resnet20()
    expected = atofx.trace(model, torch.randn(1, 3, 32, 32)).flops()
    with FlopCounterMode(display=False):
        program = atofx.trace(model, torch.randn(1, 3, 32, 32))
        assert program.flops() == expected
        assert program.verify(program.random_mask()).flops_counted < expected


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_compact_weights_lie_as_those_they_come_from(memory_format: torch.memory_format) -> None:
    model = zoo.resnet20().to(memory_format=memory_format)
    program = atofx.trace(model, torch.randn(1, 3, 32, 32).contiguous(memory_format=memory_format))
    compact = program.compact(program.random_mask(keep=0.5))
    weight = compact.get_parameter("layer1.0.conv1.weight")
    assert weight.shape == (8, 8, 3, 3)
    assert weight.is_contiguous(memory_format=memory_format)


def test_every_batch_of_a_matrix_product_counts() -> None:
    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 6)
            self.weight = nn.Parameter(torch.randn(8, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight @ self.fc(x)

    program = atofx.trace(Left(), torch.randn(3, 5, 4))
    assert program.flops() == 3 * 5 * 4 * 6 + 3 * 8 * 5 * 6
    assert program.verify(program.full_mask()).ok


class SaysSizes(nn.Module):
    """Returns what its layers computed, and sizes of that."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y = torch.relu(self.wide(x))
        sizes = {"width": y.shape[1], "shape": tuple(y.shape), "elements": y.numel(), "line": y.flatten(2).shape[-2]}
        return {"out": self.out(y), **sizes, "root": float(y.size(1)) ** 0.5}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_sizes_among_the_results_are_those_of_the_model(frontend: Frontend) -> None:
    model = SaysSizes().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6), frontend=frontend)
    mask = program.random_mask()
    for x in (torch.randn(2, 3, 6, 6), torch.randn(3, 3, 4, 8)):
        dense, small = model(x), program.compact(mask)(x)
        assert {k: v for k, v in small.items() if k != "out"} == {k: v for k, v in dense.items() if k != "out"}


def test_a_branch_nobody_reads_costs_nothing_where_nodes_are_counted_one_by_one() -> None:
    """Fvcore cannot record indices from pooling as a whole."""

    class Unpools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.spare, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.wide(x).relu()
            self.spare(y)
            values, places = functional.max_pool2d(y, 2, return_indices=True)
            return self.out(functional.max_unpool2d(values, places, 2))

    program = atofx.trace(Unpools().eval(), torch.randn(2, 3, 6, 6))
    assert program.flops() == 2 * (16 * 27 * 8 + 16 * 8 * 2)
    assert program.params() == sum(p.numel() for p in Unpools().parameters())
    assert program.verify(program.random_mask()).ok
