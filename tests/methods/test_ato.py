import copy
import json
import warnings

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional

import atofx
from atofx.errors import ConfigError, TargetError
from atofx.methods import ATO, Method, Schedule
from atofx.testing import relative_error
from tests.methods.nets import Plain, Residual, Task, train

INPUT = torch.zeros(1, 3, 8, 8)


def traced(net=Residual, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    model = net().to(dtype)
    return model, atofx.trace(model, INPUT.to(dtype))


def kept_fraction(program, mask):
    return program.flops(mask) / program.flops()


@pytest.mark.parametrize("net", [Plain, Residual])
@pytest.mark.parametrize("projection", ["proximal", "half-space"])
def test_trains_and_shrinks_at_once(net, projection):
    model, program = traced(net, torch.float64)
    task = Task(dtype=torch.float64)
    method = ATO(program, 0.5, total_steps=80, steps_per_epoch=8, projection=projection)
    assert isinstance(method, Method)
    train(model, method, task, 0, 80)
    mask = method.mask()
    assert method.frozen
    assert kept_fraction(program, mask) == pytest.approx(0.5, rel=0.01)
    assert all(keep.any() for keep in mask.values())
    compact = program.compact(mask)
    model.eval(), compact.eval()
    inputs, _ = task.batch(99)
    with torch.no_grad():
        error = relative_error(compact(inputs), model(inputs))
    assert error < 1e-9  # the big model needs no mask any more


def test_learns_while_it_shrinks():
    model, program = traced()
    method = ATO(program, 0.5, total_steps=160, steps_per_epoch=16)
    train(model, method, Task(), 0, 160)
    compact = program.compact(method.mask()).eval()
    inputs, labels = Task(512).batch(99)
    assert float((compact(inputs).argmax(1) == labels).double().mean()) > 0.8


def test_dropped_units_are_exactly_zero_and_kept_ones_are_not():
    model, program = traced()
    method = ATO(program, 0.4, total_steps=30, steps_per_epoch=5)
    train(model, method, Task(), 0, 30)
    for group in program.prunable:
        keep = method.mask()[group.name]
        for member in group.members:
            if member.role == "producer":
                rows = program.tensor(member.name).detach().movedim(member.dim, 0)
                inside = member.unit >= 0
                assert not rows[inside][~keep[member.unit[inside]]].any()
                assert rows[inside][keep[member.unit[inside]]].any()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("flops", [0.3, 0.7])
def test_target_is_met_however_short_the_training(steps, flops):
    model, program = traced(seed=steps)
    method = ATO(program, flops, total_steps=steps, seed=steps)
    train(model, method, Task(size=4), 0, steps)
    assert kept_fraction(program, method.mask()) == pytest.approx(flops, rel=0.01)


def test_target_is_met_with_a_controller_far_from_it():
    model, program = traced()
    method = ATO(program, 0.5, total_steps=40, every=2, controller_lr=0.5, reg_w=0.0)
    train(model, method, Task(), 0, 40)
    assert kept_fraction(program, method.mask()) == pytest.approx(0.5, rel=0.01)


def test_controller_finds_the_target_by_itself():
    model, program = traced()
    method = ATO(program, 0.5, total_steps=300, every=1, controller_lr=1e-2, schedule=Schedule(t_w=1.0))
    train(model, method, Task(size=4), 0, 150)
    assert method.metrics()["sampled_flops"] == pytest.approx(0.5, abs=0.12)


def test_phases():
    model, program = traced()
    method = ATO(program, 0.5, total_steps=100, steps_per_epoch=10, schedule=Schedule(0.1, 0.2, 0.4, 0.45, 0.5))
    task = Task(size=4)
    seen = {}
    optimizer = None
    for step in range(100):
        optimizer = train(model, method, task, step, step + 1, optimizer)
        seen[step] = method.metrics()
    assert "controller_loss" not in seen[9]
    assert "controller_loss" in seen[10]
    assert method.controller_steps == 8  # 40 steps of window, one in five
    lambdas = [(step, seen[step]["lambda"]) for step in (19, 20, 39, 40)]
    assert lambdas == [(19, 0.0), (20, 10.0), (39, 10.0), (40, 1000.0)]
    assert [seen[step]["frozen"] for step in (49, 50, 99)] == [0.0, 1.0, 1.0]
    assert seen[9]["flops"] == 1.0
    assert seen[50]["flops"] == pytest.approx(0.5, rel=0.01)


def test_a_batch_is_made_only_when_due():
    _, program = traced()
    method = ATO(program, 0.5, total_steps=40, every=5)
    calls = []

    def batch():
        calls.append(method.steps)
        return Task(size=2).batch(0)

    due = []
    for step in range(40):
        if method.due():
            due.append(step)
        method.step(lr=0.1, batch=batch)
    assert calls == due
    assert len(due) == method.controller_steps == method.plan.updates


def test_controller_step_leaves_everything_else_alone():
    model, program = traced()
    model.train()
    model.blocks[0].bn1.eval()  # one norm frozen by the user
    functional.cross_entropy(model(Task().batch(0)[0]), Task().batch(0)[1]).backward()
    method = ATO(program, 0.5, total_steps=10, every=1, schedule=Schedule(t_start=0.0, t_w=1.0))
    modes = {name: module.training for name, module in model.named_modules()}
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    random_state = torch.get_rng_state()
    with torch.no_grad():  # also works where the caller has gradients off
        method.step(lr=0.1, batch=Task().batch(1))
    assert method.controller_steps == 1
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_modes_come_back_after_an_error():
    model, program = traced()
    model.train()
    method = ATO(program, 0.5, total_steps=10, schedule=Schedule(t_start=0.0))
    with pytest.raises(RuntimeError):
        method.step(lr=0.1, batch=(torch.zeros(2, 5, 8, 8), torch.zeros(2, dtype=torch.long)))
    assert all(module.training for module in model.modules())


def through_files(state):
    """A state dict as safetensors and JSON and back."""
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    scalars = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
    return {**load(save(tensors)), **json.loads(json.dumps(scalars))}


@pytest.mark.parametrize("projection", ["proximal", "half-space"])
@pytest.mark.parametrize("cut", [3, 14, 23, 31, 45, 60])
def test_resumes_bit_for_bit(cut, projection):
    def fresh():
        model, program = traced(seed=3)
        return model, ATO(program, 0.5, total_steps=60, steps_per_epoch=4, every=3, projection=projection, seed=3)

    task = Task(size=8)
    whole, method = fresh()
    train(whole, method, task, 0, 64)
    first, before = fresh()
    optimizer = train(first, before, task, 0, cut)
    saved = copy.deepcopy(first.state_dict()), copy.deepcopy(optimizer.state_dict()), through_files(before.state_dict())
    second, after = fresh()
    after.load_state_dict(saved[2])
    second.load_state_dict(saved[0])
    optimizer = torch.optim.SGD(second.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    optimizer.load_state_dict(saved[1])
    train(second, after, task, cut, 64, optimizer)
    assert after.mask() == method.mask()
    assert after.metrics() == method.metrics()
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values(), strict=True)
    )
    expected, found = method.state_dict(), after.state_dict()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else value == found[name], name


def test_refuses_the_state_of_another_run():
    _, program = traced()
    state = ATO(program, 0.5, total_steps=60).state_dict()
    with pytest.raises(ConfigError, match="total_steps is 60, here 61"):
        ATO(program, 0.5, total_steps=61).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"flops is 0\.5, here 0\.6"):
        ATO(program, 0.6, total_steps=60).load_state_dict(state)


def test_finish_before_the_end_freezes_and_calibrates():
    model, program = traced()
    method = ATO(program, 0.5, total_steps=1000)
    train(model, method, Task(), 0, 5)
    assert not method.frozen
    assert kept_fraction(program, method.mask()) == pytest.approx(0.5, rel=0.01)
    assert method.present_mask() == program.full_mask()
    assert method.finish() == method.mask() == method.present_mask()


def test_training_on_after_the_end_keeps_the_zeros():
    model, program = traced(dtype=torch.float64)
    task = Task(dtype=torch.float64)
    method = ATO(program, 0.5, total_steps=30)
    optimizer = train(model, method, task, 0, 30)
    mask = method.finish(optimizer)
    train(model, method, task, 30, 40, optimizer)
    assert method.mask() == mask
    model.eval()
    inputs, _ = task.batch(77)
    with torch.no_grad():
        error = relative_error(program.compact(mask).eval()(inputs), model(inputs))
    assert error < 1e-9


def test_no_drawn_mask_empties_a_group():
    model, program = traced()
    method = ATO(program, 0.05, total_steps=60, every=1, controller_lr=0.2, steps_per_epoch=1)
    task = Task(size=4)
    optimizer = None
    fewest = 1.0
    for step in range(60):
        optimizer = train(model, method, task, step, step + 1, optimizer)
        assert all(keep.any() for keep in method.present_mask().values())
        fewest = min(fewest, method.metrics()["flops"])
    assert fewest < 0.2


def test_same_seed_same_masks():
    masks = []
    for _ in range(2):
        model, program = traced(seed=1)
        method = ATO(program, 0.5, total_steps=40, seed=5)
        train(model, method, Task(), 0, 40)
        masks.append(method.mask())
    assert masks[0] == masks[1]


def test_p_is_the_kept_fraction_of_the_prunable_part():
    model, program = traced()
    inner = [group.name for group in program.prunable if "blocks" in group.name and "conv1" in group.name]
    method = ATO(program, p=0.5, groups=inner, total_steps=60)
    fixed = program.flops() - method.targets.prunable
    assert method.target == pytest.approx((fixed + 0.5 * method.targets.prunable) / program.flops())
    train(model, method, Task(), 0, 60)
    mask = method.mask()
    assert kept_fraction(program, mask) == pytest.approx(method.target, rel=0.01)
    assert all(keep.all() for name, keep in mask.items() if name not in inner)


def test_says_what_is_missing_or_out_of_reach():
    _, program = traced()
    with pytest.raises(ConfigError, match=r"total_steps=epochs \* len\(loader\)"):
        ATO(program, 0.5)
    with pytest.raises(ConfigError, match="flops="):
        ATO(program, total_steps=10)
    with pytest.raises(TargetError, match=r"one unit left in every group"):
        ATO(program, 1e-4, total_steps=10)
    with pytest.raises(ConfigError, match="'half-space'"):
        ATO(program, 0.5, total_steps=10, projection="halfspace")
    with pytest.raises(ConfigError, match="negative"):
        ATO(program, 0.5, total_steps=10, lmd=-1.0)


def test_nothing_prunable():
    model = torch.nn.Linear(3, 4)
    program = atofx.trace(model, torch.zeros(1, 3))
    with pytest.raises(TargetError, match="no group"):
        ATO(program, 0.5, total_steps=4)
    method = ATO(program, 1.0, total_steps=4)
    for _ in range(4):
        method.step(lr=0.1, batch=(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)))
    assert kept_fraction(program, method.mask()) == 1.0


def test_bf16_autocast_and_channels_last():
    torch.manual_seed(0)
    model = Residual().to(memory_format=torch.channels_last)
    program = atofx.trace(model, INPUT)
    method = ATO(program, 0.5, total_steps=20, every=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(20):
        inputs, labels = Task().batch(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            method.step(lr=0.05, batch=(inputs, labels))
    assert kept_fraction(program, method.mask()) == pytest.approx(0.5, rel=0.01)
    assert method.state_dict()["controller.norm.weight"].dtype == torch.float32
    assert model.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_own_loss_and_keyword_inputs():
    class Keyword(Plain):
        def forward(self, image):
            return {"logits": super().forward(image)}

    model = Keyword()
    program = atofx.trace(model, {"image": INPUT})
    seen = []

    def loss_fn(output, labels):
        seen.append(output.keys())
        return functional.cross_entropy(output["logits"], labels)

    method = ATO(program, 0.5, total_steps=4, every=1, schedule=Schedule(t_start=0.0), loss_fn=loss_fn)
    inputs, labels = Task().batch(0)
    method.step(lr=0.1, batch=({"image": inputs}, labels))
    assert [list(keys) for keys in seen] == [["logits"]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    torch.manual_seed(0)
    model = Residual().cuda()
    program = atofx.trace(model, INPUT.cuda())
    method = ATO(program, 0.5, total_steps=40, every=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(40):
        inputs, labels = (tensor.cuda() for tensor in Task().batch(step))
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.step(lr=0.05, batch=(inputs, labels))
    mask = method.finish(optimizer)
    assert kept_fraction(program, mask) == pytest.approx(0.5, rel=0.01)
    inputs = Task().batch(99)[0].cuda()
    with torch.no_grad():
        error = relative_error(program.compact(mask).eval()(inputs), model.eval()(inputs))
    assert error < 1e-3


def test_warns_nothing_on_an_ordinary_run():
    model, program = traced()
    method = ATO(program, 0.5, total_steps=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, method, Task(), 0, 20)
