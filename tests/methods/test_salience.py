"""The scores of DHSPG and HESSO, by hand."""

import math

import pytest
import torch
from torch.nn import Parameter

from atofx.ir.groups import Group
from atofx.methods.flat import FlatUnits, learning_rates
from atofx.methods.producers import producer_axes
from atofx.methods.salience import Moments, importance, redundancy
from atofx.methods.selection import UnitSpace
from tests.methods.stub import StubProgram, producer


def two_units():
    """x_0 = (3, 0, 4) with gradient (1, 0, 0), x_1 = (0, 1, 0) with gradient (0, -2, 0); the bias is in the unit."""
    weight = Parameter(torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    bias = Parameter(torch.tensor([4.0, 0.0], dtype=torch.float64))
    weight.grad = torch.tensor([[1.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
    group = Group("a", 2, True, None, (producer("w", [0, 1]), producer("b", [0, 1])))
    space = UnitSpace([group])
    program = StubProgram([group], {"w": weight, "b": bias})
    return FlatUnits(program, space, producer_axes(space), torch.ones(2, dtype=torch.bool)), weight, bias


def test_moments():
    moments = Moments.of(two_units()[0])
    assert moments.squares.tolist() == [25.0, 1.0]
    assert moments.products.tolist() == [3.0, -2.0]
    assert moments.gradients.tolist() == [1.0, 4.0]  # the bias has no gradient: zero
    assert moments.sizes.tolist() == [3.0, 3.0]
    assert moments.average.tolist() == pytest.approx([5 / 3, 1 / 3])
    assert moments.cosine.tolist() == pytest.approx([0.6, -1.0])


def test_redundancy_is_cosine_and_smallness():
    cosine = math.hypot(0.6, 1.0)
    small = 1 / (5 / 3 + 1e-6), 1 / (1 / 3 + 1e-6)
    norm = math.hypot(*small)
    expected = [(0.6 / cosine + small[0] / norm) / 2, (-1.0 / cosine + small[1] / norm) / 2]
    assert redundancy(Moments.of(two_units()[0])).tolist() == pytest.approx(expected)


def test_importance_is_five_criteria():
    # magnitude, average magnitude, cosine + 1, |<x, g>|, <x, g>^2 / 2
    criteria = [(5.0, 1.0), (5 / 3, 1 / 3), (1.6, 0.0), (3.0, 2.0), (4.5, 2.0)]
    expected = [sum(pair[unit] / math.hypot(*pair) for pair in criteria) / 5 for unit in (0, 1)]
    assert importance(Moments.of(two_units()[0])).tolist() == pytest.approx(expected)


def test_flat_vectors_write_back_what_they_read():
    units, weight, bias = two_units()
    assert units.read().sort().values.tolist() == [0.0, 0.0, 0.0, 1.0, 3.0, 4.0]
    units.subtract_(units.expand(torch.tensor([0.5, 0.0], dtype=torch.float64), [1.0, 1.0]) * units.read())
    assert weight.tolist() == [[1.5, 0.0], [0.0, 1.0]]
    assert bias.tolist() == [2.0, 0.0]


def test_every_parameter_has_its_own_rate():
    units, weight, bias = two_units()
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.1}], lr=0.5)
    assert learning_rates(optimizer, [weight, bias]) == [0.1, 0.0]
    units.subtract_(units.expand(torch.ones(2, dtype=torch.float64), learning_rates(optimizer, units.parameters)))
    assert weight.tolist() == [[2.9, -0.1], [-0.1, 0.9]]
    assert bias.tolist() == [4.0, 0.0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_axis_and_layout(layout):
    data = torch.randn(6, 4, 3, 3, dtype=torch.float64).contiguous(memory_format=layout)
    weight = Parameter(data.clone(memory_format=torch.preserve_format))
    group = Group("up", 4, True, None, (producer("w", range(4), dim=1),))
    space = UnitSpace([group])
    chosen = torch.tensor([False, True, False, True])
    units = FlatUnits(StubProgram([group], {"w": weight}), space, producer_axes(space), chosen)
    x = units.read()
    torch.testing.assert_close(units.sums(x * x), data[:, [1, 3]].square().sum((0, 2, 3)))
    assert units.sizes.tolist() == [54.0, 54.0]
    units.subtract_(units.expand(torch.ones(2, dtype=torch.float64), [1.0]) * x)
    assert not weight[:, [1, 3]].any()
    assert torch.equal(weight[:, [0, 2]], data[:, [0, 2]])
