"""HSPG, DHSPG and HESSO: steps worked out by hand, and whole trainings of small networks."""

import copy
import json

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import Parameter, functional

import atofx
from atofx.errors import ConfigError, TargetError
from atofx.ir.groups import Group
from atofx.ir.limits import Limits
from atofx.methods import DHSPG, HESSO, HSPG, DHSPGSchedule, HESSOSchedule, HSPGSchedule, Kind
from atofx.methods.phases import fade_factor
from atofx.testing import relative_error
from tests.methods.nets import Plain, Residual, Task
from tests.methods.stub import StubProgram, producer

INPUT = torch.zeros(1, 3, 8, 8)
METHODS = {
    "hspg": lambda base, program, **k: HSPG(base, program, **k),
    "hspg-strong": lambda base, program, **k: HSPG(base, program, lmd=0.1, kind=Kind(0.1), **k),
    "dhspg": lambda base, program, **k: DHSPG(base, program, lmd=0.1, **k),
    "dhspg-average": lambda base, program, **k: DHSPG(base, program, score_momentum=0.9, **k),
    "hesso": lambda base, program, **k: HESSO(base, program, **k),
}


def traced(net=Residual, dtype=torch.float64):
    torch.manual_seed(0)
    model = net().to(dtype)
    return model, atofx.trace(model, INPUT.to(dtype))


def sgd(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)


def train(model, optimizer, start, stop, dtype=torch.float64):
    task = Task(dtype=dtype)
    model.train()
    for number in range(start, stop):
        torch.manual_seed(number)
        inputs, labels = task.batch(number)
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def kept_fraction(program, mask):
    return program.flops(mask) / program.flops()


def toy(weights):
    """One group with a unit in each row, and an SGD of rate 0.1 around it."""
    weight = Parameter(torch.tensor(weights, dtype=torch.float64))
    group = Group("a", len(weights), True, None, (producer("w", range(len(weights))),))
    return StubProgram([group], {"w": weight}), weight, torch.optim.SGD([weight], lr=0.1)


def step(optimizer, weight, gradient):
    weight.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer.step()


# ---------------------------------------------------------------- HSPG


def test_subgradient_stage():
    program, weight, base = toy([(3.0, 4.0), (0.0, 0.0)])
    step(HSPG(base, program, lmd=0.5, total_steps=100), weight, [(1.0, 0.0), (1.0, 0.0)])
    # x' = (2.9, 4) - 0.1 * 0.5 * (3, 4) / 5.000001; the zero unit follows its gradient
    assert weight[0].tolist() == pytest.approx([2.9 - 0.03, 4.0 - 0.04], abs=1e-7)
    assert weight[1].tolist() == [-0.1, 0.0]


def test_proximal_stage():
    program, weight, base = toy([(3.1, 4.0), (0.0, 0.03)])
    step(HSPG(base, program, lmd=0.5, first_stage="proximal", total_steps=100), weight, [(1.0, 0.0), (0.0, 0.0)])
    assert weight[0].tolist() == pytest.approx([3.0 * 4.95 / 5, 4.0 * 4.95 / 5])  # x' = (3, 4), threshold 0.05
    assert weight[1].tolist() == [0.0, 0.0]


NOW = HSPGSchedule(t_half_space=0.0, t_decide=0.9, t_end=1.0)


def test_half_space_stage():
    program, weight, base = toy([(3.0, 4.0), (3.0, 4.0), (0.0, 0.0), (1.0, 0.0)])
    optimizer = HSPG(base, program, lmd=0.5, schedule=NOW, total_steps=100)
    gradient = [(1.0, 0.0), (50.0, 1.0), (1.0, 0.0), (9.0, 0.0)]
    step(optimizer, weight, gradient)
    assert weight[0].tolist() == pytest.approx([2.87, 3.96], abs=1e-6)
    # second: x' = (-2, 3.9), x^ = (-2.03, 3.86), <x^, x> = 9.35 >= 0; third stays zero; fourth: 0.1 - 0.05 = 0.05 >= 0
    assert weight[1].tolist() == pytest.approx([-2.03, 3.86], abs=1e-6)
    assert weight[2].tolist() == [0.0, 0.0]
    assert weight[3].tolist() == pytest.approx([0.05, 0.0], abs=1e-6)
    assert optimizer.metrics()["sparsity"] == 0.25
    step(optimizer, weight, [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.01, 0.0)])
    assert weight[3].tolist() == [0.0, 0.0]  # 0.05 - 0.001 - 0.05 < 0
    assert optimizer.mask().kept == {"a": 2}


def test_a_group_keeps_a_unit():
    program, weight, base = toy([(1.0, 0.0), (2.0, 0.0), (3.0, 0.0)])
    optimizer = HSPG(base, program, lmd=0.0, kind=Kind(0.9), schedule=NOW, total_steps=100)
    step(optimizer, weight, [(9.0, 0.0), (9.0, 0.0), (9.0, 0.0)])  # ratios 0.1, 0.55, 0.7: all below 0.9
    assert weight.tolist() == [[0.0, 0.0], [0.0, 0.0], [pytest.approx(2.1), 0.0]]


def test_a_cap_is_an_allowance():
    program, weight, base = toy([(1.0,), (2.0,), (3.0,), (4.0,)])
    optimizer = HSPG(base, program, lmd=0.0, kinds={"a": Kind(0.9, cap=0.5)}, schedule=NOW, total_steps=100)
    step(optimizer, weight, [(9.0,), (9.0,), (9.0,), (9.0,)])  # ratios 0.1, 0.55, 0.7, 0.775: all below 0.9
    assert weight.flatten().tolist() == pytest.approx([0.0, 0.0, 2.1, 3.1])
    step(optimizer, weight, [(0.0,), (0.0,), (20.0,), (0.0,)])  # its ratio, 0.05, would have it go
    assert weight.flatten().tolist() == pytest.approx([0.0, 0.0, 0.1, 3.1])
    assert optimizer.metrics()["sparsity"] == 0.5


def test_a_target_beyond_a_cap_is_said_to_be():
    program, weight, base = toy([(1.0,), (2.0,), (3.0,), (4.0,)])
    kinds, schedule = {"a": Kind(cap=0.5)}, HSPGSchedule(t_half_space=0.0, t_decide=0.0, t_end=0.1)
    optimizer = HSPG(base, program, sparsity=0.75, kinds=kinds, schedule=schedule, total_steps=100)
    with pytest.warns(UserWarning, match="the target takes more units of the kind 'a' than its cap lets go"):
        step(optimizer, weight, [(0.0,)] * 4)
    assert optimizer.mask().kept == {"a": 1}


def test_epsilon_adapts_while_nothing_happens():
    program, weight, base = toy([(1.0,), (2.0,), (3.0,), (4.0,)])
    schedule = HSPGSchedule(t_half_space=0.1, t_decide=1.0, t_end=1.0, adapt_every=0.02)
    optimizer = HSPG(base, program, lmd=0.0, kind=Kind(adaptive=True), schedule=schedule, total_steps=100)
    seen = []
    for _ in range(16):
        step(optimizer, weight, [(0.0,)] * 4)
        seen.append(round(optimizer.metrics()["epsilon"], 3))
    assert seen == [0.0] * 12 + [0.1, 0.1, 0.2, 0.2]


def test_lambda_drops():
    program, _, base = toy([(1.0,)])
    schedule = HSPGSchedule(lmd_drops=(0.2, 0.4), lmd_gamma=0.1)
    optimizer = HSPG(base, program, lmd=1.0, schedule=schedule, total_steps=50)
    assert [optimizer.lmd(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_target_ends_the_projection():
    model, program = traced(Plain)
    schedule = HSPGSchedule(t_half_space=0.1, t_decide=0.9, t_end=1.0)
    optimizer = HSPG(sgd(model), program, flops=0.6, lmd=1.0, kind=Kind(0.9), schedule=schedule, total_steps=60)
    train(model, optimizer, 0, 20)
    assert kept_fraction(program, optimizer.mask()) == pytest.approx(0.6, rel=0.01)
    assert optimizer.metrics()["flops"] == pytest.approx(0.6, rel=0.01)  # long before t_decide
    train(model, optimizer, 20, 60)
    assert kept_fraction(program, optimizer.finish()) == pytest.approx(0.6, rel=0.01)


def test_without_a_target_what_is_zero_goes():
    model, program = traced(Plain)
    schedule = HSPGSchedule(t_half_space=0.2)
    optimizer = HSPG(sgd(model), program, lmd=0.3, kind=Kind(0.5), schedule=schedule, total_steps=60)
    train(model, optimizer, 0, 60)
    mask = optimizer.finish()
    assert 0 < kept_fraction(program, mask) < 1
    assert program.verify(mask).ok


# ---------------------------------------------------------------- DHSPG


def test_dhspg_partition_and_penalty():
    program, weight, base = toy([(3.0, 4.0), (0.3, 0.4), (2.0, 0.0), (2.0, 2.0)])
    schedule = DHSPGSchedule(t_partition=0.0, t_half_space=0.5, t_fade=0.9, t_end=1.0)
    optimizer = DHSPG(base, program, sparsity=0.25, tolerance=0.0, lmd=0.5, schedule=schedule, total_steps=100)
    # the second unit is small and its gradient points along it: the one candidate
    step(optimizer, weight, [(-1.0, 0.0), (0.6, 0.8), (-1.0, 0.0), (-1.0, 0.0)])
    assert optimizer.metrics()["candidates"] == 1
    assert weight[0].tolist() == [3.1, 4.0]  # important ones follow the base optimizer
    # x' = (0.24, 0.32), minus 0.1 * 0.5 * x / 0.5
    assert weight[1].tolist() == pytest.approx([0.24 - 0.03, 0.32 - 0.04])
    # now the gradient enlarges it: ||x|| = 0.35, <x, g> = -0.35, ||g||^2 = 1: lambda_min = lambda_max = 1,
    # clip(2, 0.5, 5) >= 1, so the middle of the two: the penalty undoes the step
    step(optimizer, weight, [(0.0, 0.0), (-0.6, -0.8), (0.0, 0.0), (0.0, 0.0)])
    assert weight[1].tolist() == pytest.approx([0.21, 0.28])


def test_dhspg_projects_candidates_until_k_are_zero():
    program, weight, base = toy([(1.0,), (1.0,), (9.0,), (9.0,)])
    schedule = DHSPGSchedule(t_partition=0.0, t_fade=0.9, t_end=1.0)
    # DHSPG's own option: a quarter more candidates than have to go
    optimizer = DHSPG(base, program, sparsity=0.25, tolerance=0.25, epsilon=0.9, schedule=schedule, total_steps=100)
    step(optimizer, weight, [(2.0,), (3.0,), (1.0,), (1.0,)])
    assert optimizer.metrics()["candidates"] == 2
    # both candidates fail the test (ratios about 0.8 and 0.7); one may go, the furthest
    assert weight.flatten().tolist() == pytest.approx([0.8, 0.0, 8.9, 8.9], abs=1e-3)
    for _ in range(10):
        step(optimizer, weight, [(1.0,), (-1.0,), (0.0,), (0.0,)])
    assert optimizer.frozen  # K is reached
    assert weight.flatten().tolist() == pytest.approx([-0.2, 0.0, 8.9, 8.9], abs=1e-3)  # the rest is left alone
    assert optimizer.mask()["a"].tolist() == [True, False, True, True]


def test_dhspg_strength_follows_the_base_optimizer():
    program, weight, base = toy([(1.0,), (2.0,)])
    assert DHSPG(base, program, flops=0.5, total_steps=9)._cap == 10
    adam = torch.optim.AdamW([weight])
    assert DHSPG(adam, program, flops=0.5, total_steps=9)._amplify == 20
    assert DHSPG(adam, program, flops=0.5, total_steps=9, amplify=3.0)._amplify == 3


def test_dhspg_averages_scores():
    program, weight, base = toy([(1.0,), (1.0,), (1.0,), (1.0,)])
    schedule = DHSPGSchedule(t_partition=0.03)
    optimizer = DHSPG(base, program, sparsity=0.25, score_momentum=0.5, schedule=schedule, total_steps=100)
    for first in (-1.0, -1.0, -1.0, 1.0):  # scored at steps 0 to 3; the last alone would choose the first unit
        step(optimizer, weight, [(first,), (0.0,), (0.0,), (1.0 if first < 0 else 0.0,)])
    assert optimizer.state_dict()["candidates"].tolist() == [False, False, False, True]


# ---------------------------------------------------------------- HESSO


def test_fade_is_linear():
    factors = [fade_factor(step, 4) for step in range(4)]
    assert factors == [3 / 4, 2 / 3, 1 / 2, 0.0]
    assert [fade_factor(step, 1) for step in (0, 1)] == [0.0, 0.0]
    assert fade_factor(0, 0) == 0.0


def test_hesso_fades_the_least_period_by_period():
    program, weight, base = toy([(4.0,), (1.0,), (3.0,), (2.0,)])
    schedule = HESSOSchedule(t_start=0.01, t_end=0.05, periods=2)
    optimizer = HESSO(base, program, sparsity=0.5, schedule=schedule, total_steps=100)
    seen = []
    for _ in range(7):
        step(optimizer, weight, [(0.0,)] * 4)
        seen.append(weight.flatten().tolist())
    assert seen[0] == [4.0, 1.0, 3.0, 2.0]
    assert seen[1] == [4.0, 0.5, 3.0, 2.0]  # 1/2, then 0
    assert seen[2] == [4.0, 0.0, 3.0, 2.0]
    assert seen[3] == [4.0, 0.0, 3.0, 1.0]
    assert seen[4] == seen[6] == [4.0, 0.0, 3.0, 0.0]
    assert optimizer.frozen
    step(optimizer, weight, [(0.0,), (5.0,), (0.0,), (5.0,)])
    assert weight.flatten().tolist() == [4.0, 0.0, 3.0, 0.0]


def test_hesso_faded_units_take_their_step():
    program, weight, base = toy([(4.0,), (1.0,)])
    schedule = HESSOSchedule(t_start=0.0, t_end=0.02, periods=1)
    optimizer = HESSO(base, program, sparsity=0.5, schedule=schedule, total_steps=100)
    step(optimizer, weight, [(1.0,), (1.0,)])
    assert float(weight[1].detach()) == pytest.approx(0.9 / 2)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("net", [Plain, Residual])
@pytest.mark.parametrize("method", METHODS)
def test_trains_and_shrinks_at_once(net, method):
    model, program = traced(net)
    optimizer = METHODS[method](sgd(model), program, flops=0.5, total_steps=60)
    train(model, optimizer, 0, 60)
    assert optimizer.frozen
    mask = optimizer.finish()
    assert kept_fraction(program, mask) == pytest.approx(0.5, rel=0.01)
    assert optimizer.present_mask() == mask
    inputs, labels = Task(dtype=torch.float64).batch(99)
    with torch.no_grad():
        assert functional.cross_entropy(model(inputs), labels) < 1.2  # chance is 1.39
        compact = program.compact(mask)
        model.eval(), compact.eval()
        assert relative_error(compact(inputs), model(inputs)) < 1e-12
    assert program.verify(mask).ok


@pytest.mark.parametrize("make", [HSPG, DHSPG, HESSO])
def test_target_group_sparsity(make):
    model, program = traced()
    optimizer = make(sgd(model), program, sparsity=0.4, total_steps=40)
    train(model, optimizer, 0, 40)
    mask = optimizer.finish()
    total = sum(len(keep) for keep in mask.values())
    assert total - sum(mask.kept.values()) == int(0.4 * total)


@pytest.mark.parametrize("make", [HSPG, DHSPG, HESSO])
def test_limits_hold(make):
    model, program = traced()
    limits = Limits(round_to=4, per_group={"blocks": {"min_keep": 0.5}})
    optimizer = make(sgd(model), program, flops=0.586, limits=limits, total_steps=40)
    train(model, optimizer, 0, 40)
    mask = optimizer.finish()
    program.check_limits(mask, limits)
    assert kept_fraction(program, mask) == pytest.approx(0.586, rel=0.01)


BASES = {
    "sgd": sgd,
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.8, 0.99)),
    "groups": lambda model: torch.optim.Adam(
        [{"params": list(model.parameters())[:2], "lr": 1e-3}, {"params": list(model.parameters())[2:]}], lr=5e-3
    ),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [3, 17, 40])
def test_resumes_bit_for_bit(method, base, stop):
    def fresh():
        model, program = traced(dtype=torch.float32)
        optimizer = METHODS[method](BASES[base](model), program, flops=0.5, total_steps=60)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)

    def run(model, optimizer, scheduler, start, end):
        for number in range(start, end):
            train(model, optimizer, number, number + 1, torch.float32)
            scheduler.step()

    whole = fresh()
    run(*whole, 0, 60)
    first = fresh()
    run(*first, 0, stop)
    state = first[1].state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    plain = json.loads(json.dumps({name: value for name, value in state.items() if name not in tensors}))
    second = fresh()
    second[0].load_state_dict(copy.deepcopy(first[0].state_dict()))
    second[1].load_state_dict({**load(save(tensors)), **plain})
    second[2].load_state_dict(first[2].state_dict())
    run(*second, stop, 60)
    assert whole[1].finish() == second[1].finish()
    for name, value in whole[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[name]), name


def test_is_a_torch_optimizer_around_another():
    model, program = traced(Plain)
    base = sgd(model)
    optimizer = HESSO(base, program, flops=0.5, total_steps=10)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is base.param_groups
    assert optimizer.state is base.state
    assert optimizer.defaults is base.defaults
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(model, optimizer, 0, 1)
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.025
    extra = Parameter(torch.zeros(2))
    optimizer.add_param_group({"params": [extra]})
    assert base.param_groups[1]["params"] == [extra]
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is base.param_groups


@pytest.mark.parametrize("method", METHODS)
def test_nothing_has_to_go(method):
    model, program = traced(Plain)
    optimizer = METHODS[method](sgd(model), program, flops=1.0, total_steps=20)
    train(model, optimizer, 0, 20)
    assert optimizer.finish() == program.full_mask()
    nothing = METHODS[method](sgd(model), program, sparsity=0.0, groups=[], total_steps=20)
    train(model, nothing, 0, 20)
    assert nothing.finish() == program.full_mask()


def test_closure():
    program, weight, base = toy([(1.0,), (2.0,)])
    optimizer = HSPG(base, program, total_steps=10, lmd=0.0)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5.0
    assert weight.flatten().tolist() == pytest.approx([0.8, 1.6])


def test_a_mask_can_be_asked_for_at_any_time():
    model, program = traced()
    for make in METHODS.values():
        optimizer = make(sgd(model), program, flops=0.5, total_steps=100)
        train(model, optimizer, 0, 15)
        assert kept_fraction(program, optimizer.mask()) == pytest.approx(0.5, rel=0.01)


def test_units_of_a_finished_run_stay_at_zero():
    model, program = traced(Plain)
    optimizer = HESSO(sgd(model), program, flops=0.5, total_steps=100)
    train(model, optimizer, 0, 2)
    mask = optimizer.finish()
    zeroed = program.zeroed(mask).state_dict()
    assert all(torch.equal(value, zeroed[name]) for name, value in model.state_dict().items())
    train(model, optimizer, 2, 5)
    assert optimizer.finish() == mask
    assert program.verify(mask).ok
    assert not any(
        model.get_parameter(f"{name}.weight")[~keep].any() for name, keep in mask.items() if name.startswith("conv")
    )


def test_a_foreign_state_is_refused():
    model, program = traced(Plain)
    state = HESSO(sgd(model), program, flops=0.5, total_steps=10).state_dict()
    with pytest.raises(ConfigError, match="total_steps is 10, here 20"):
        HESSO(sgd(model), program, flops=0.5, total_steps=20).load_state_dict(state)
    with pytest.raises(ConfigError, match="method is 'HESSO', here 'HSPG'"):
        HSPG(sgd(model), program, flops=0.5, total_steps=10).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"flops is 0.5, here 0.6"):
        HESSO(sgd(model), program, flops=0.6, total_steps=10).load_state_dict(state)
    del state["base.options"]
    with pytest.raises(ConfigError, match="the state holds no optimizer"):
        HESSO(sgd(model), program, flops=0.5, total_steps=10).load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b, p: DHSPG(b, p, total_steps=9), "DHSPG needs a target"),
        (lambda b, p: HESSO(b, p, total_steps=9), "HESSO needs a target"),
        (lambda b, p: HESSO(b, p, flops=0.5, total_steps=0), "total_steps=0 must be at least 1"),
        (lambda b, p: HSPG(b, p, total_steps=9, lmd=-1.0), "lmd=-1.0 must not be negative"),
        (lambda b, p: HSPG(b, p, total_steps=9, first_stage="prox"), "first_stage='prox' is unknown"),
        (lambda b, p: HSPG(b, p, total_steps=9, kinds={"nope": Kind()}), "no prunable group .kinds. matches 'nope'"),
        (lambda b, p: HSPG(b, p, total_steps=9, kind=Kind(1.0)), "epsilon=1.0 is not in"),
        (lambda b, p: HSPG(b, p, total_steps=9, kind=Kind(cap=2.0)), "cap=2.0 is not a share"),
        (lambda b, p: HSPGSchedule(t_half_space=0.6), "t_decide=0.4 lies before t_half_space=0.6"),
        (lambda b, p: HSPGSchedule(lmd_gamma=0.0), "lmd_gamma=0.0"),
        (lambda b, p: DHSPGSchedule(t_partition=0.5), "t_fade=0.4 lies before t_half_space=0.5"),
        (lambda b, p: HESSOSchedule(t_end=2.0), "t_end=2.0 is not a fraction"),
        (lambda b, p: HESSOSchedule(periods=0), "periods=0 must be at least 1"),
        (lambda b, p: DHSPG(b, p, flops=0.5, total_steps=9, cap=0.5), "cap=0.5 must be at least 1"),
        (lambda b, p: DHSPG(b, p, flops=0.5, total_steps=9, score_momentum=1.0), "score_momentum=1.0"),
        (lambda b, p: DHSPG(b, p, flops=0.5, total_steps=9, lmd=-1.0), "lmd=-1.0 must not be negative"),
    ],
)
def test_refusals(make, message):
    program, _, base = toy([(1.0,), (2.0,)])
    with pytest.raises(ConfigError, match=message):
        make(base, program)


def test_an_unreachable_target_is_refused_at_once():
    model, program = traced(Plain)
    with pytest.raises(TargetError, match=r"cannot keep only 0.0010"):
        HESSO(sgd(model), program, flops=0.001, total_steps=10)


def test_lbfgs_state_cannot_be_flat():
    program, weight, _ = toy([(1.0,), (2.0,)])
    base = torch.optim.LBFGS([weight])
    base.state[weight]["al"] = [1, 2]
    with pytest.raises(ConfigError, match="'al' of LBFGS is a list"):
        HSPG(base, program, total_steps=9).state_dict()


@pytest.mark.parametrize("method", [HSPG, DHSPG, HESSO])
def test_the_optimizer_comes_first(method):
    model, program = traced()
    with pytest.raises(
        ConfigError, match=rf"{method.__name__}\(optimizer, program, ...\); its first argument is a Program"
    ):
        method(program, sgd(model), total_steps=10, flops=0.5)
