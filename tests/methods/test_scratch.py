"""Pruning from Scratch, by hand on networks small enough for paper, and once on traced ones."""

from functools import partial

import pytest
import torch
from torch import nn

import atofx
from atofx.errors import ConfigError, TargetError
from atofx.methods import PruningFromScratch
from atofx.methods.fixed import Fixed
from atofx.methods.protocol import Method, Search
from atofx.methods.scratch import budget_epochs, sparsity_loss
from tests.methods.nets import Chain, Plain, Residual, Task


def chain(**options):
    model = Chain()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return PruningFromScratch(atofx.trace(model, torch.ones(1, 1)), **{"flops": 0.5, **options})


def set_gates(search, values):
    state = search.state_dict()
    search.load_state_dict({**state, "gates": torch.tensor(values)})


def test_the_loss_is_over_all_gates_and_not_by_layers():
    # Layers of 4 and 1 units: means of 0.5 and 1 by layer, 0.6 over all.
    gates = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])
    assert float(sparsity_loss(gates, 0.2)) == pytest.approx(0.16)
    assert float(sparsity_loss(-gates, 0.2)) == pytest.approx(0.16)


def test_the_gradient_of_a_step():
    # Two gates at 1, task loss 3 times the first: d/dg = (3, 0) + lmd 2 (1 - r) / 2. Adam's first step is lr * sign.
    search = chain(lmd=0.5, r=0.2, lr=0.25, loss_fn=lambda output, labels: output.sum() * 0)
    search.step((torch.ones(1, 1), None))
    assert torch.allclose(search.gates, torch.full((6,), 0.75))
    assert search.metrics()["loss"] == pytest.approx(0.5 * 0.8**2)
    assert search.metrics()["gate_mean"] == pytest.approx(0.75)


def test_gates_stay_between_zero_and_one():
    down = chain(lr=1.5, loss_fn=lambda output, labels: output.sum())
    down.step((torch.ones(1, 1), None))
    assert down.gates.tolist() == [0.0] * 6
    assert down.open_share == 0
    up = chain(lr=1.5, lmd=0, loss_fn=lambda output, labels: -output.sum())
    up.step((torch.ones(1, 1), None))
    assert up.gates.tolist() == [1.0] * 6


def test_the_snapshot_is_the_best_of_those_sparse_enough():
    search = chain(r=0.5)
    plan = [
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 99.0),  # not sparse
        ([0.5, 0.2, 0.0, 0.0, 0.3, 0.0], 50.0),  # half of them are open: just enough
        ([0.4, 0.0, 0.0, 0.0, 0.0, 0.6], 60.0),
        ([0.1, 0.0, 0.0, 0.0, 0.0, 0.0], 55.0),
        ([0.4, 0.1, 0.1, 0.1, 0.0, 0.6], 70.0),  # four of six
    ]
    for gates, accuracy in plan:
        set_gates(search, gates)
        search.evaluate(accuracy)
    assert torch.allclose(search.gates, torch.tensor([0.4, 0.0, 0.0, 0.0, 0.0, 0.6]))
    assert search.metrics()["snapshot"] == 60


def test_without_a_snapshot_the_final_gates_decide():
    search = chain(r=0.2)
    set_gates(search, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    search.evaluate(80.0)
    assert torch.allclose(search.gates, torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]))


def test_one_threshold_over_the_whole_network():
    # Keeping (n, m) of (4, 2) costs n + n m + 2 m. 16 in all; the target is 8: three best are (2, 1): 2 + 2 + 2 = 6,
    # four best are (3, 1): 3 + 3 + 2 = 8.
    search = chain(flops=0.5)
    set_gates(search, [0.9, 0.3, 0.6, 0.7, 0.1, 0.8])
    mask = search.mask()
    assert search.program.flops(mask) == 8
    assert {name: vector.tolist() for name, vector in mask.items()} == {
        "a": [True, False, True, True],
        "b": [False, True],
    }


def test_no_group_ends_empty_and_limits_hold():
    # Everything of b is closed; one unit of it stays all the same: (2, 1) costs 6 of 16.
    search = chain(flops=6 / 16)
    set_gates(search, [0.9, 0.8, 0.7, 0.6, 0.0, 0.0])
    assert search.mask().kept == {"a": 2, "b": 1}
    limited = chain(flops=8 / 16, limits=atofx.Limits(per_group={"b": {"min_units": 2}}))
    set_gates(limited, [0.9, 0.8, 0.7, 0.6, 0.0, 0.0])  # n + 2 n + 4 = 7 for one unit of a, the nearest there is
    with pytest.warns(UserWarning, match="keeps 0.4375 of the FLOPs"):
        assert limited.mask().kept == {"a": 1, "b": 2}


def test_the_target_is_a_fraction_of_the_base():
    search = chain(flops=1.0, base_flops=8)
    assert search.flops == 0.5
    assert search.program.flops(search.mask()) == 8
    with pytest.raises(ConfigError, match="base_flops=32 are more than the 16"):
        chain(flops=1.0, base_flops=32)


def test_equal_gates_are_ranked_by_the_seed():
    first, again, other = (chain(flops=0.5, seed=seed).mask() for seed in (1, 1, 2))
    assert first == again
    assert {chain(flops=0.5, seed=seed).mask() for seed in range(8)} != {other}


@pytest.mark.parametrize(
    ("epochs", "kept", "expected"), [(160, 0.5, 320), (160, 0.3, 533), (160, 1.0, 160), (30, 0.1, 300), (3, 0.7, 4)]
)
def test_budget_epochs(epochs, kept, expected):
    assert budget_epochs(epochs, kept) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flops": 0.0}, r"flops=0\.0 is not a kept fraction"),
        ({"r": 0.0}, r"r=0\.0 is not a mean of gates"),
        ({"lmd": -1.0}, r"lmd=-1\.0 must not be negative"),
        ({"groups": ["x*"]}, "no prunable group matches"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        chain(**options)


def test_unreachable_target():
    with pytest.raises(TargetError, match="the smallest mask, with one unit left in every group, still has 4 of 16"):
        chain(flops=0.1)
    frozen = atofx.trace(Chain(), torch.ones(1, 1), freeze=["a", "b", "c"])
    with pytest.raises(TargetError, match="no group of the model may be pruned"):
        PruningFromScratch(frozen, 0.5)


def test_it_is_a_search_and_the_fixed_mask_a_method():
    assert isinstance(chain(), Search)
    mask = chain().mask()
    method = Fixed(mask, 0.5)
    assert isinstance(method, Method)
    assert method.finish() == method.present_mask() == method.mask() == mask
    assert method.metrics() == {"flops": 0.5, "frozen": 1.0}


@pytest.mark.parametrize("net", [Plain, Residual])
def test_the_users_model_is_left_alone_and_resuming_changes_nothing(net):
    torch.manual_seed(0)
    model, task = net().eval(), Task()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make = partial(PruningFromScratch, atofx.trace(model, task.batch(0)[0]), 0.5, lr=0.05)

    def run(search, start, stop):
        for number in range(start, stop):
            torch.manual_seed(number)
            search.step(task.batch(number))
            search.evaluate(float(number))
        return search.state_dict()

    whole = run(make(), 0, 30)
    resumed = make()
    resumed.load_state_dict(run(make(), 0, 17))
    assert resumed.steps == 17
    rest = run(resumed, 17, 30)
    assert whole.keys() == rest.keys()
    for name, value in whole.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(rest[name])), name
    assert not model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ConfigError, match="belongs to a model with 12 gated units"):
        make().load_state_dict({**whole, "units": 12})


def test_the_mask_meets_the_target_within_a_thousandth():
    model, task = Residual(32), Task()
    search = PruningFromScratch(atofx.trace(model, task.batch(0)[0]), 0.4, lr=0.1)
    for number in range(12):
        search.step(task.batch(number))
    kept = search.program.flops(search.mask()) / search.program.flops()
    assert kept == pytest.approx(0.4, rel=1e-3)


def test_gates_learn_what_matters():
    """Units of a layer whose outputs nobody reads close first."""
    torch.manual_seed(0)
    model, task = Plain(), Task()
    with torch.no_grad():
        model.conv2.weight[:, 6:] = 0  # the second half of conv1 is not read
    search = PruningFromScratch(atofx.trace(model, task.batch(0)[0]), 0.7, groups=["conv1"], r=0.1, lmd=1e-3)
    for number in range(60):
        search.step(task.batch(number))
    read, unread = search.gates[:6], search.gates[6:]
    assert float(read.mean()) > float(unread.mean())


class Deciding(nn.Module):
    """Decides by values, so that only its body can be traced."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 6, 1)
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        y = self.body(x).mean((2, 3))
        return self.head(y * 2 if float(y.detach().sum()) > 1e9 else y)


def test_a_model_traced_in_regions_from_wide_to_trained():
    torch.manual_seed(0)
    inputs, labels = Task(4).batch(0)
    base = atofx.trace(Deciding(), inputs)
    wide = base.widen(2.0)
    program = atofx.trace(wide, inputs)
    assert {group.size for group in program.prunable} == {16, 24}
    search = PruningFromScratch(program, 0.5, base_flops=base.flops())
    for _ in range(3):
        search.step((inputs, labels))
    mask = search.mask()
    assert program.flops(mask) / base.flops() == pytest.approx(0.5, rel=0.01)
    small = program.compact(mask)
    atofx.nn.renew_(small, seed=1)
    wide.load_state_dict(program.dense_state_dict(mask, small.state_dict()))
    with torch.no_grad():
        assert torch.allclose(wide.eval()(inputs), small.eval()(inputs), atol=1e-6)
