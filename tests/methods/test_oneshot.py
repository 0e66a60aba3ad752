import pytest
import torch
from torch import nn

import atofx
from atofx.errors import ConfigError, TargetError
from atofx.ir.groups import Group
from atofx.methods import oneshot
from atofx.methods.criteria import Data, bn_scale, criterion, l1, l2, random, taylor
from atofx.methods.selection import UnitSpace
from tests.methods.nets import Plain, Residual, Task
from tests.methods.stub import StubProgram, consumer, producer


def one_group():
    tensors = {
        "conv.weight": nn.Parameter(torch.tensor([[3.0, -4.0], [0.0, 1.0]])),
        "norm.weight": nn.Parameter(torch.tensor([-12.0, 2.0])),
        "norm.bias": nn.Parameter(torch.tensor([0.0, 2.0])),
        "norm.running_mean": torch.tensor([100.0, 100.0]),
        "next.weight": nn.Parameter(torch.full((5, 2), 50.0)),
    }
    members = (
        producer("conv.weight", [0, 1]),
        producer("norm.weight", [0, 1]),
        producer("norm.bias", [0, 1]),
        consumer("norm.running_mean", [0, 1]),
        consumer("next.weight", [0, 1], dim=1),
    )
    program = StubProgram([Group("conv", 2, True, None, members)], tensors)
    return program, UnitSpace(program.groups)


@pytest.mark.parametrize(
    ("score", "expected"), [(l1, [19.0, 5.0]), (l2, [13.0, 3.0]), (bn_scale, [12.0, 2.0])], ids=["l1", "l2", "bn-scale"]
)
def test_magnitudes_by_hand(score, expected):
    program, space = one_group()
    assert score(program, space, Data()).tolist() == pytest.approx(expected)


def test_random_is_seeded():
    program, space = one_group()
    assert torch.equal(random(program, space, Data(seed=1)), random(program, space, Data(seed=1)))
    assert not torch.equal(random(program, space, Data(seed=1)), random(program, space, Data(seed=2)))


def test_taylor_by_hand():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]))
        model[1].weight.copy_(torch.tensor([[2.0, -1.0, 4.0]]))
    program = atofx.trace(model, torch.zeros(1, 2))
    batches = [(torch.tensor([[1.0, 1.0]]), None), (torch.tensor([[2.0, 0.0]]), None)]
    data = Data(batches, lambda output, _: output.sum())
    scores = taylor(program, UnitSpace(program.prunable), data)
    # sum over a row of w dL/dw = (next weight) * (row . x): first batch 6, -2, 4; second 4, -6, 4
    assert scores.tolist() == pytest.approx([(36 + 16) / 2, (4 + 36) / 2, 16])


def test_taylor_leaves_the_model_alone():
    model = Residual().train()
    program = atofx.trace(model, torch.zeros(1, 3, 8, 8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    oneshot(program, 0.5, "taylor", batches=[Task().batch(0)])
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("scope", ["global", "uniform", "traffic"])
@pytest.mark.parametrize("name", ["l1", "l2", "bn-scale", "random", "taylor"])
def test_meets_the_target(name, scope):
    program = atofx.trace(Residual(), torch.zeros(1, 3, 8, 8))
    mask = oneshot(program, 0.5, name, scope=scope, batches=[Task().batch(0)])
    assert program.flops(mask) / program.flops() == pytest.approx(0.5, rel=0.01)
    assert all(keep.any() for keep in mask.values())


def test_uniform_keeps_one_ratio():
    program = atofx.trace(Plain(), torch.zeros(1, 3, 8, 8))
    mask = oneshot(program, 0.5, "l2", scope="uniform", tolerance=0.05)
    ratios = [float(keep.double().mean()) for keep in mask.values()]
    assert max(ratios) - min(ratios) <= 1 / 12 + 1e-9


def test_l2_drops_the_smallest_filters():
    model = Plain()
    with torch.no_grad():
        for conv in (model.conv1, model.conv2, model.conv3):
            conv.weight[::2] *= 1e-3
            conv.bias[::2] *= 1e-3
    program = atofx.trace(model, torch.zeros(1, 3, 8, 8))
    mask = oneshot(program, 0.3, "l2", tolerance=0.05)
    assert sum(int(keep[::2].sum()) for keep in mask.values()) <= 3


def test_global_scores_do_not_depend_on_the_scale_of_a_group():
    model = Plain()
    program = atofx.trace(model, torch.zeros(1, 3, 8, 8))
    before = oneshot(program, 0.5)
    with torch.no_grad():
        model.conv2.weight.mul_(64)
        model.conv2.bias.mul_(64)
    assert oneshot(program, 0.5) == before


def test_errors_teach():
    program = atofx.trace(Plain(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="did you mean 'taylor'"):
        criterion("tailor")
    with pytest.raises(ConfigError, match="these have none: "):
        oneshot(program, 0.5, "bn-scale")
    with pytest.raises(ConfigError, match="needs data"):
        oneshot(program, 0.5, "taylor")
    with pytest.raises(ConfigError, match="scope='local' is unknown; it is one of global, uniform, traffic"):
        oneshot(program, 0.5, scope="local")
    with pytest.raises(TargetError, match="the smallest mask"):
        oneshot(program, 1e-4)
    with pytest.raises(ConfigError, match="flops='half' is not a kept fraction; it lies in"):
        oneshot(program, "half")
