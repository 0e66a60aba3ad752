"""The formulas of HSPG and DHSPG, by hand."""

import pytest
import torch

from atofx.methods.half_space import adapted_epsilon, first_of_each, penalties, pull, turns_away


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_subgradient_divides_by_the_norm():
    # ||x|| = 5: 0.5 / (5 + 1e-6); a zero unit is not pulled
    assert pull(0.5, f64(25.0, 0.0)).tolist() == pytest.approx([0.5 / 5.000001, 0.0])


def test_half_space_test():
    # x = (3, 4): ||x||^2 = 25; trial (0.2, 0.2) gives 1.4, (0.4, 0.4) gives 2.8, (-1, 0) gives -3
    trial, squares = f64(1.4, 2.8, -3.0, 0.0), f64(25.0, 25.0, 25.0, 0.0)
    assert turns_away(trial, squares, 0.0).tolist() == [False, False, True, False]
    assert turns_away(trial, squares, 0.1).tolist() == [True, False, True, False]  # below 2.5
    assert turns_away(trial, squares, 0.9).tolist() == [True, True, True, False]
    assert turns_away(trial, squares, f64(0.0, 0.2, 0.0, 0.9)).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("products", "gradients", "options", "expected"),
    [
        (2.0, 4.0, {}, 0.5),  # the step shrinks the unit: lambda
        # ||x|| = 5, <x, g> = -6.5, ||g||^2 = 2.05: lambda_min = 1.3, lambda_max = 2.05 * 5 / 6.5 = 1.5769...
        (-6.5, 2.05, {"amplify": 1.1}, 1.43),  # amplify lambda_min, within [lambda, cap lambda]
        (-6.5, 2.05, {"amplify": 1.1, "lmd": 1.5}, 1.5),  # lambda is more already
        (-6.5, 2.05, {"amplify": 2.0, "cap": 3.0}, 1.5),  # the cap, 3 * 0.5, lies under lambda_max
        (-6.5, 2.05, {"amplify": 2.0}, (1.3 + 2.05 * 5 / 6.5) / 2),  # 2.6 >= lambda_max: the middle
        (-6.5, 2.05, {"amplify": 1.0, "lmd": 1.6}, (1.3 + 2.05 * 5 / 6.5) / 2),  # lambda itself >= lambda_max
    ],
)
def test_penalty(products, gradients, options, expected):
    chosen = {"lmd": 0.5, "amplify": 2.0, "cap": 10.0, **options}
    lmd = chosen.pop("lmd")
    got = penalties(lmd, f64(25.0), f64(products), f64(gradients), **chosen)
    assert got.tolist() == pytest.approx([expected])


def test_penalty_of_a_zero_unit_is_lambda():
    assert penalties(0.5, f64(0.0), f64(0.0), f64(1.0), amplify=2.0, cap=10.0).tolist() == [0.5]


def test_room_is_an_allowance():
    wanted = torch.tensor([True, True, True, False, True, True])
    ratio = f64(0.3, -0.2, 0.1, -9.0, 0.5, 0.4)
    owner = torch.tensor([0, 0, 0, 0, 1, 1])
    chosen = first_of_each(wanted, ratio, owner, torch.tensor([2, 1]))
    assert chosen.tolist() == [False, True, True, False, False, True]  # the smallest ratios
    assert first_of_each(wanted, ratio, owner, torch.tensor([9, 9])).tolist() == wanted.tolist()
    assert not first_of_each(wanted, ratio, owner, torch.tensor([0, -3])).any()


def test_adaptive_epsilon():
    epsilon = f64(0.0, 0.3, 0.3, 0.95, 0.999)
    sparsity, before, most = f64(0.2, 0.205, 0.22, 0.2, 0.2), f64(0.2, 0.2, 0.2, 0.2, 0.2), f64(0.5, 0.5, 0.5, 0.5, 0.5)
    assert adapted_epsilon(epsilon, sparsity, before, most).tolist() == pytest.approx([0.1, 0.4, 0.3, 0.999, 0.999])
    assert adapted_epsilon(f64(0.3), f64(0.5), f64(0.5), f64(0.5)).tolist() == pytest.approx([0.3])  # at its cap
