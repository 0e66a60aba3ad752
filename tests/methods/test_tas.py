"""Transformable Architecture Search: every formula by hand, and the search on networks small enough for that."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import atofx
from atofx.errors import ConfigError, TargetError
from atofx.methods import TAS, Temperature
from atofx.methods.candidates import Choice, depths_of, widths_of
from atofx.methods.cost_term import cost_term
from atofx.methods.gumbel import draw_all, draw_two, gumbel_noise, perturbed
from atofx.methods.likely import most_probable
from atofx.methods.protocol import Search
from tests.methods.nets import Chain, Plain, Residual, Task


class Fixed:
    """A generator's place taken by its seed."""

    def __new__(cls, seed=0):
        return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (16, (4, 6, 8, 9, 11, 12, 14, 16)),
        (32, (9, 12, 16, 19, 22, 25, 28, 32)),
        (64, (19, 25, 32, 38, 44, 51, 57, 64)),
        (10, (3, 4, 5, 6, 7, 8, 9, 10)),  # 10 * 0.7 is 7.000000000000001 and 0.3 * 10 may be 2.9999
        (2, (1, 2)),
    ],
)
def test_candidate_widths(size, expected):
    assert widths_of(size) == expected


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (5, (1, 3, 5)), (9, (1, 3, 5, 7, 9)), (18, (*range(1, 18, 2), 18))],
)
def test_candidate_depths(blocks, expected):
    assert depths_of(blocks) == expected


def test_perturbed_logits():
    # log softmax of log(1, 3) is log(1/4, 3/4); noise (1, 0), temperature 2.
    z = perturbed(torch.tensor([1.0, 3.0]).log(), torch.tensor([1.0, 0.0]), 2.0)
    assert z.tolist() == pytest.approx([(math.log(0.25) + 1) / 2, math.log(0.75) / 2])
    assert torch.softmax(z, 0)[0] == pytest.approx(math.sqrt(math.e) / (math.sqrt(math.e) + math.sqrt(3)))


def test_gumbel_noise_is_minus_log_minus_log():
    uniform = torch.rand(5, generator=Fixed(3))
    assert torch.allclose(gumbel_noise(5, Fixed(3)), -(-uniform.log()).log(), atol=1e-5)
    many = gumbel_noise(100_000, Fixed())
    assert float(many.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(many.var()) == pytest.approx(math.pi**2 / 6, abs=0.05)


def test_two_candidates_are_renormalised():
    logits = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    drawn = draw_two(logits, 0.7, Fixed(5))
    z = perturbed(logits, gumbel_noise(4, Fixed(5)), 0.7)
    first, second = drawn.indices
    assert first < second
    a, b = z[first].exp(), z[second].exp()
    assert drawn.weights.tolist() == pytest.approx([(a / (a + b)).item(), (b / (a + b)).item()])
    (gradient,) = torch.autograd.grad(drawn.weights[0], [logits])
    assert float(gradient[first]) > 0 > float(gradient[second])
    others = [i for i in range(4) if i not in drawn.indices]
    assert gradient[others].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)  # the normaliser of log softmax cancels


def test_candidates_are_drawn_as_often_as_they_are_probable():
    logits = torch.tensor([0.25, 0.25, 0.5]).log()
    generator, counts = Fixed(), torch.zeros(3)
    for _ in range(2000):
        counts[list(draw_two(logits, 1.0, generator).indices)] += 1
    assert int(counts.sum()) == 4000  # two different ones each time
    assert counts[2] > max(counts[0], counts[1]) > 0
    cold = [draw_two(torch.tensor([0.0, 9.0, 0.0]), 0.1, Fixed(seed)) for seed in range(20)]
    assert all(1 in drawn.indices and float(drawn.weights.max()) > 0.99 for drawn in cold)


def test_a_single_candidate_and_all_of_them():
    drawn = draw_two(torch.tensor([3.0]), 1.0, Fixed())
    assert (drawn.indices, drawn.weights.tolist()) == ((0,), [1.0])
    weights = draw_all(torch.zeros(3), 2.0, Fixed(1))
    assert torch.allclose(weights, torch.softmax(gumbel_noise(3, Fixed(1)) / 2, 0))


@pytest.mark.parametrize(
    ("present", "sign"), [(101.0, 1), (100.0, 0), (95.0, 0), (94.9, -1)]
)  # target 100, slack 5: the tolerance is on the lower side only
def test_branches_of_the_cost(present, sign):
    expected = torch.tensor(7.0, requires_grad=True)
    cost = cost_term(expected, present, 100.0, 5.0)
    assert float(cost.detach()) == pytest.approx(sign * math.log(7))
    if sign:
        assert float(torch.autograd.grad(cost, [expected])[0]) == pytest.approx(sign / 7)


def test_temperatures():
    cosine, linear = Temperature(), Temperature.published("linear")
    assert [cosine.at(done) for done in (0, 0.5, 1)] == pytest.approx([5.0, 0.1 + 4.9 / 2, 0.1])
    assert cosine.at(1 / 3) == pytest.approx(0.1 + 4.9 * 0.75)
    assert [linear.at(done) for done in (0, 0.25, 1)] == pytest.approx([10.0, 7.525, 0.1])
    with pytest.raises(ConfigError, match=r"falls from start=0\.1 to end=5\.0"):
        Temperature("cosine", 0.1, 5.0)


def test_expected_width_and_the_order_in_which_units_go():
    choice = Choice("g", (2, 4, 5), (2, 4, 5), 5)
    p = torch.tensor([0.5, 0.3, 0.2])
    assert choice.probability_of_each(p).tolist() == pytest.approx([1.0, 1.0, 0.5, 0.5, 0.2])
    assert float(choice.probability_of_each(p).sum()) == pytest.approx(0.5 * 2 + 0.3 * 4 + 0.2 * 5)
    assert choice.position_of_each(p).tolist() == pytest.approx([1.0, 0.75, 0.5, 0.35, 0.2])
    short = Choice("g", (1, 2), (1, 2), 4)
    assert short.position_of_each(torch.tensor([0.5, 0.5])).tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_combinations_come_by_falling_probability():
    vectors = [torch.tensor([0.6, 0.4]), torch.tensor([0.1, 0.7, 0.2])]
    found = list(most_probable(vectors))
    products = [float(vectors[0][i] * vectors[1][j]) for i, j in found]
    assert len(set(found)) == 6
    assert products == sorted(products, reverse=True)
    assert found[0] == (0, 1)
    assert list(most_probable([])) == [()]


# ---------------------------------------------------------------- on networks


class Blocks(nn.Module):
    """Three residual blocks of 4 features: 4 + 3 * 16 + 8 multiply-adds."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(1, 4, bias=False)
        self.f = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
        self.out = nn.Linear(4, 2, bias=False)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for f in self.f:
            x = torch.relu(x + f(x))
        return self.out(x)


def quick(net, **options):
    torch.manual_seed(0)
    return TAS(atofx.trace(net(), torch.ones(1, 1)), **{"flops": 0.5, "total_steps": 10, **options})


def with_probabilities(search, **probabilities):
    """The search with these probabilities, in the order of its groups and stages."""
    parts = [torch.tensor(probabilities[choice.name]).log() for choice in (*search.groups, *search.stages)]
    search.load_state_dict({**search.state_dict(), "logits": torch.cat(parts)})
    return search


def test_expected_flops_of_widths_and_depths():
    # Widths of a: 1, 2, 3, 4 by a quarter each, 2.5 expected; of b: 1, 2, 1.5 expected.
    search = with_probabilities(quick(Chain), a=[0.25] * 4, b=[0.5, 0.5])
    assert [choice.candidates for choice in search.groups] == [(1, 2, 3, 4), (1, 2)]
    assert search.expected_flops().item() == pytest.approx(2.5 + 2.5 * 1.5 + 1.5 * 2)
    # Depths 1, 2, 3 with 0.2, 0.3, 0.5: the second block is there by 0.8, the third by 0.5.
    deep = with_probabilities(quick(Blocks, search="depth"), f=[0.2, 0.3, 0.5])
    assert [choice.candidates for choice in deep.stages] == [(1, 2, 3)]
    assert float(deep.expected_flops()) == pytest.approx(4 + 16 * (1 + 0.8 + 0.5) + 8)


def test_the_gradient_of_the_cost_moves_the_logits():
    # The task says nothing; the network is beyond its target, so that wide candidates lose.
    search = quick(Chain, loss_fn=lambda output, labels: output.sum() * 0, lr=0.1, weight_decay=0.0)
    before = with_probabilities(search, a=[0.1, 0.1, 0.1, 0.7], b=[0.3, 0.7]).probabilities()
    search.step((torch.ones(2, 1), None), (torch.ones(2, 1), None))
    after = search.probabilities()
    assert float(after["a"][3]) < float(before["a"][3])
    assert float(after["b"][1]) < float(before["b"][1])
    assert search.metrics()["cost"] == pytest.approx(math.log(search.metrics()["expected_flops"] * 16 / 1e6), rel=1e-5)
    assert search.steps == 1


def test_the_most_probable_widths_where_they_are_on_target():
    # (2, 1): 2 + 2 + 2 = 6 of 16.
    search = with_probabilities(quick(Chain, flops=6 / 16), a=[0.1, 0.5, 0.2, 0.2], b=[0.9, 0.1])
    mask = search.mask()
    assert {name: vector.tolist() for name, vector in mask.items()} == {
        "a": [True, True, False, False],
        "b": [True, False],
    }
    assert search.without() == ()


def test_the_least_sure_units_go_or_come_until_it_is_on_target():
    # (4, 2) are most probable and cost 16; the target is 10 = (2, 2). The second unit of b stays by 0.9, the third and
    # fourth of a by 0.6 at most.
    search = with_probabilities(quick(Chain, flops=10 / 16), a=[0.2, 0.2, 0.0001, 0.6], b=[0.1, 0.9])
    assert search.mask().kept == {"a": 2, "b": 2}
    # (1, 1) are most probable and cost 4; the target is 8 = (3, 1): units of a are surer to stay than that of b.
    up = with_probabilities(quick(Chain, flops=8 / 16), a=[0.4, 0.2, 0.2, 0.2], b=[0.9, 0.1])
    assert up.mask().kept == {"a": 3, "b": 1}


def test_depths_alone_are_the_most_probable_within_the_tolerance():
    # 60 in all; depths 1, 2, 3 cost 28, 44, 60. The target is 45, with 3 below: depth 2, though 3 is more probable.
    search = with_probabilities(quick(Blocks, search="depth", flops=0.75), f=[0.3, 0.1, 0.6])
    assert search.without() == ("f.2",)
    assert search.mask() == search.program.full_mask()
    far = with_probabilities(quick(Blocks, search="depth", flops=0.6), f=[0.3, 0.1, 0.6])  # 36: between 28 and 44
    with pytest.warns(UserWarning, match=r"the nearest depths keep 0\.4667 of the FLOPs for a target of 0\.6000"):
        assert far.without() == ("f.1", "f.2")


def test_shape_takes_the_most_probable_depth_that_can_reach_the_target():
    # Depth 1 costs 28 of 60 at most, so that 0.7 needs more; of the others 2 is more probable, and 44 are cut to 42.
    search = with_probabilities(quick(Blocks, flops=0.7), stem=[0.25] * 4, f=[0.7, 0.2, 0.1])
    assert [choice.name for choice in search.groups] == ["stem"]
    with pytest.warns(UserWarning, match="a single unit more or less is worth more than the tolerance"):
        assert search.mask().kept == {"stem": 4}  # 27 with three units
    assert search.without() == ("f.2",)
    assert search.program.without_blocks(search.without()).flops() == 44


def test_candidates_keep_to_the_limits_and_frozen_blocks_stay():
    search = quick(Chain, limits=atofx.Limits(round_to=2))
    assert [choice.candidates for choice in search.groups] == [(2, 4), (1, 2)]
    frozen = atofx.trace(Blocks(), torch.ones(1, 1), freeze=["f.1"])
    deep = TAS(frozen, 0.9, total_steps=1, search="depth")
    assert [choice.candidates for choice in deep.stages] == [(2, 3)]


@pytest.mark.parametrize(
    ("net", "options", "error", "message"),
    [
        (Chain, {"flops": 0.0}, ConfigError, r"flops=0\.0 is not a kept fraction"),
        (Chain, {"total_steps": 0}, ConfigError, "a search takes at least one step"),
        (Chain, {"ratios": (0.5, 1.5)}, ConfigError, r"ratios=\(0\.5, 1\.5\) are shares"),
        (Chain, {"lmd": -1.0}, ConfigError, r"lmd=-1\.0 must not be negative"),
        (Chain, {"groups": ["x*"]}, ConfigError, "no prunable group matches"),
        (Chain, {"flops": 0.1, "search": "width"}, TargetError, "the smallest mask, with one unit left"),
        (
            Blocks,
            {"flops": 0.05},
            TargetError,
            "the smallest mask, with one unit left in every group, still has 4 of 60",
        ),
        (Chain, {"search": "depth"}, TargetError, "no stage of residual blocks that could be shallower"),
        (Blocks, {"search": "depth", "flops": 0.2}, TargetError, "the shallowest network still has 28 of 60"),
    ],
)
def test_what_is_refused(net, options, error, message):
    with pytest.raises(error, match=message):
        quick(net, **options)


@pytest.mark.parametrize("net", [Plain, Residual])
def test_the_users_model_is_left_alone_and_resuming_changes_nothing(net):
    torch.manual_seed(0)
    model, task = net().eval(), Task()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make = partial(TAS, atofx.trace(model, task.batch(0)[0]), 0.5, total_steps=30, lr=0.05)

    def run(search, start, stop):
        for number in range(start, stop):
            torch.manual_seed(number)
            search.step(task.batch(number), partial(task.batch, number + 100))
            search.network.eval()(task.batch(number)[0])
        return search.state_dict()

    whole = run(make(), 0, 30)
    resumed = make()
    assert isinstance(resumed, Search)
    resumed.load_state_dict(run(make(), 0, 17))
    rest = run(resumed, 17, 30)
    assert whole.keys() == rest.keys()
    for name, value in whole.items():
        same = (
            value == rest[name] if isinstance(value, str) else torch.equal(*map(torch.as_tensor, (value, rest[name])))
        )
        assert same, name
    assert resumed.program.flops(resumed.mask()) == pytest.approx(resumed.target, rel=0.1)
    assert not model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ConfigError, match="this state belongs to a search among 3 widths and depths"):
        make().load_state_dict({**whole, "logits": torch.zeros(3)})


def test_weights_and_logits_learn_in_turn():
    model, task = Residual(32), Task()
    search = TAS(atofx.trace(model, task.batch(0)[0]), 0.5, total_steps=60, lr=0.02)
    for number in range(60):
        search.step(task.batch(number), partial(task.batch, number + 100))
        if number == 0:
            first = search.metrics()["loss"]
    assert search.metrics()["loss"] < first
    assert search.metrics()["temperature"] < 0.2
    cut = search.program.without_blocks(search.without()) if search.without() else search.program
    assert search.program.flops(search.mask(), blocks=dict.fromkeys(search.without(), False)) == pytest.approx(
        0.5 * search.total, rel=0.01
    )
    assert cut.flops() <= search.total
