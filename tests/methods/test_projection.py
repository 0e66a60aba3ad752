import math

import pytest
import torch
from torch.nn import Parameter

from atofx.ir.groups import Group
from atofx.methods.producers import Dropped, producer_axes
from atofx.methods.projection import HalfSpace, Proximal
from atofx.methods.selection import UnitSpace
from tests.methods.stub import StubProgram, consumer, producer


def two_groups(dtype=torch.float64):
    """Group a: 3 units with a filter and a bias each; group b: 2 units of two coordinates, and a producing buffer."""
    tensors = {
        "conv.weight": Parameter(torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 1.0]], dtype=dtype)),
        "conv.bias": Parameter(torch.tensor([4.0, 3.0, 1.0], dtype=dtype)),
        "next.weight": Parameter(torch.arange(1.0, 13.0, dtype=dtype).view(4, 3)),
        "norm.mean": torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=dtype),
    }
    groups = [
        Group("a", 3, True, None, (producer("conv.weight", [0, 1, 2]), producer("conv.bias", [0, 1, 2]),
                                   consumer("next.weight", [0, 1, 2], dim=1))),
        Group("b", 2, True, None, (producer("next.weight", [0, 0, 1, 1]), producer("norm.mean", [0, 0, 1, 1]))),
    ]  # fmt: skip
    return StubProgram(groups, tensors), tensors


def dropped(program, keep):
    space = UnitSpace(program.groups)
    return Dropped(program, space, producer_axes(space), torch.tensor(keep, dtype=torch.bool))


def test_norms_range_over_producer_parameters_only():
    program, _ = two_groups()
    units = dropped(program, [0, 1, 0, 0, 1])
    assert units.count == 3
    # unit a0: 9 + 16; a2: 1 + 1 + 1; b0: 1 + 4 + 9 + 16 + 25 + 36 (the running mean is a buffer)
    assert units.squares().tolist() == pytest.approx([25.0, 3.0, 91.0])
    assert units.share.tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])


def test_proximal_step_by_hand():
    program, tensors = two_groups()
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    Proximal().step(dropped(program, [0, 1, 0, 0, 1]), lmd=10.0, lr=0.3)
    # a0: ||x|| = 5, threshold 10 * 2/3 * 0.3 = 2, factor 3/5; a2: ||x|| = sqrt 3 < 2, factor 0
    # b0: ||x|| = sqrt 91, threshold 10 * 1/3 * 0.3 = 1
    factor = (math.sqrt(91) - 1) / math.sqrt(91)
    assert tensors["conv.weight"][0].tolist() == pytest.approx([1.8, 0.0], rel=1e-7)
    assert tensors["conv.bias"].tolist() == pytest.approx([2.4, 3.0, 0.0], rel=1e-7)
    assert tensors["conv.weight"][2].tolist() == [0.0, 0.0]
    torch.testing.assert_close(
        tensors["next.weight"][:2].detach(), before["next.weight"][:2] * factor, rtol=1e-8, atol=0
    )
    torch.testing.assert_close(tensors["norm.mean"][:2], before["norm.mean"][:2] * factor, rtol=1e-8, atol=0)
    assert torch.equal(tensors["conv.weight"][1], before["conv.weight"][1])  # kept units: bit for bit
    assert torch.equal(tensors["next.weight"][2:], before["next.weight"][2:])
    assert torch.equal(tensors["norm.mean"][2:], before["norm.mean"][2:])


def test_norm_has_an_epsilon():
    program, tensors = two_groups()
    with torch.no_grad():
        tensors["conv.weight"].zero_()
        tensors["conv.bias"].copy_(torch.tensor([3e-5, 0, 0]))
    Proximal().step(dropped(program, [0, 1, 1, 1, 1]), lmd=1.0, lr=2e-5)
    norm = math.sqrt(9e-10 + 1e-8)
    assert float(tensors["conv.bias"][0].detach()) == pytest.approx(3e-5 * (norm - 2e-5) / norm, rel=1e-9)


def test_units_that_only_buffers_produce():
    mean = torch.tensor([5.0, 6.0])
    group = Group("n", 2, True, None, (producer("n.running_mean", [0, 1]),))
    units = dropped(StubProgram([group], {"n.running_mean": mean}), [1, 0])
    Proximal().step(units, lmd=10.0, lr=1.0)
    assert mean.tolist() == [5.0, 0.0]


def test_nothing_dropped_touches_nothing():
    program, tensors = two_groups()
    before = [tensor.detach().clone() for tensor in tensors.values()]
    units = dropped(program, [1, 1, 1, 1, 1])
    Proximal().step(units, lmd=1000.0, lr=1.0)
    units.zero_()
    assert all(torch.equal(a, b) for a, b in zip(tensors.values(), before, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_axis_layout_and_precision(layout, dtype):
    weight = torch.randn(6, 4, 3, 3).to(dtype).contiguous(memory_format=layout)
    tensors = {
        "up.weight": Parameter(weight.clone(memory_format=torch.preserve_format)),
        "up.bias": Parameter(torch.ones(4, dtype=dtype)),
    }
    group = Group("up", 4, True, None, (producer("up.weight", range(4), dim=1), producer("up.bias", range(4))))
    units = dropped(StubProgram([group], tensors), [1, 0, 1, 0])
    expected = weight[:, [1, 3]].float().square().sum((0, 2, 3)) + 1
    torch.testing.assert_close(units.squares(), expected, rtol=1e-5, atol=0)
    Proximal().step(units, lmd=1e9, lr=1.0)
    assert not tensors["up.weight"][:, [1, 3]].any()
    assert torch.equal(tensors["up.weight"][:, [0, 2]], weight[:, [0, 2]])
    assert tensors["up.bias"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert tensors["up.weight"].is_contiguous(memory_format=layout)


def test_two_groups_on_one_axis():
    tensors = {"qkv.weight": Parameter(torch.ones(6, 2))}
    groups = [
        Group("q", 2, True, None, (producer("qkv.weight", [0, 1, -1, -1, -1, -1]),)),
        Group("v", 2, True, None, (producer("qkv.weight", [-1, -1, -1, -1, 0, 1]),)),
    ]
    units = dropped(StubProgram(groups, tensors), [1, 0, 0, 1])
    assert units.squares().tolist() == pytest.approx([2.0, 2.0])
    units.zero_()
    assert tensors["qkv.weight"].sum(1).tolist() == [2.0, 0.0, 2.0, 2.0, 0.0, 2.0]


def test_momentum_of_dropped_units_is_cleared():
    program, tensors = two_groups()
    parameters = [tensor for tensor in tensors.values() if isinstance(tensor, Parameter)]
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    sum(p.square().sum() for p in parameters).backward()
    optimizer.step()
    units = dropped(program, [0, 1, 1, 1, 0])
    units.clear_momentum_(optimizer)
    state = optimizer.state[tensors["conv.weight"]]
    assert not state["exp_avg"][0].any()
    assert state["exp_avg"][1:].any()
    assert not optimizer.state[tensors["next.weight"]]["exp_avg_sq"][2:].any()
    assert float(state["step"]) == 1


def half_space(now, *, epsilon=0.1, before=(3.0, 4.0), lmd=0.001, lr=0.1, **options):
    weight = Parameter(torch.tensor([before, (7.0, 7.0)], dtype=torch.float64))
    group = Group("a", 2, True, None, (producer("w", [0, 1]),))
    units = dropped(StubProgram([group], {"w": weight}), [0, 1])
    projection = HalfSpace(epsilon=epsilon, **options)
    projection.begin(units)
    with torch.no_grad():
        weight[0] = torch.tensor(now, dtype=torch.float64)
    projection.step(units, lmd=lmd, lr=lr)
    assert weight[1].tolist() == [7.0, 7.0]
    return weight[0].tolist()


def test_half_space_penalty_by_hand():
    # x = (3, 4), x' = (2, 3): g = (10, 10), <x, g> > 0, so lambda_g = 0.5: x'' = x' - 0.1 * 0.5 * x / 5
    assert half_space((2.0, 3.0), lmd=0.5) == pytest.approx([2 - 0.03, 3 - 0.04])


def test_half_space_projects_what_turns_away():
    assert half_space((0.2, 0.2)) == [0.0, 0.0]  # <x', x> = 1.4 < 0.1 * 25
    assert half_space((0.4, 0.4)) != [0.0, 0.0]  # 2.8 > 2.5
    assert half_space((2.0, 2.0), epsilon=0.9) == [0.0, 0.0]  # 14 < 22.5


def test_half_space_penalty_outweighs_a_growing_step():
    # x' = (3.03, 4.04): g = (-0.3, -0.4), <x, g> = -2.5, ||g||^2 = 0.25, so l_min = 0.5 and l_max = 0.5:
    # clip(2 * 0.5, 0.001, 10 * 0.5) = 1 >= l_max, hence (0.5 + 0.5) / 2 = 0.5: x'' = x' - 0.1 * 0.5 * (3, 4) / 5 = x
    assert half_space((3.03, 4.04)) == pytest.approx([3.0, 4.0])
    # x' = (3.03, 4.14): g = (-0.3, -1.4), <x, g> = -6.5, l_min = 1.3, l_max = 2.05 * 5 / 6.5 = 1.576923
    # 2 * 1.3 >= l_max, hence (1.3 + 1.576923) / 2 = 1.4384615
    assert half_space((3.03, 4.14)) == pytest.approx([3.03 - 0.06 * 1.4384615, 4.14 - 0.08 * 1.4384615])
    # amplify 1.1 stays under l_max: 1.43; a larger base penalty is capped at cap * l_min
    assert half_space((3.03, 4.14), amplify=1.1) == pytest.approx([3.03 - 0.06 * 1.43, 4.14 - 0.08 * 1.43])
    assert half_space((3.03, 4.14), lmd=9.0, cap=1.2) == pytest.approx([3.03 - 0.06 * 1.56, 4.14 - 0.08 * 1.56])


def test_half_space_keeps_zeros_at_zero():
    assert half_space((0.5, 0.5), before=(0.0, 0.0)) == [0.0, 0.0]
