import math

import pytest
import torch

from atofx.methods.controller import Controller, gumbel, straight_through


def test_sizes_are_those_of_the_authors_code():
    controller = Controller([5, 7, 3])
    shapes = {name: tuple(tensor.shape) for name, tensor in controller.state_dict().items()}
    assert shapes["inputs"] == (3, 1, 64)
    assert shapes["gru.weight_ih_l0"] == shapes["gru.weight_ih_l0_reverse"] == (3 * 128, 64)
    assert shapes["gru.weight_hh_l0"] == (3 * 128, 128)
    assert shapes["norm.weight"] == (256,)
    assert shapes["heads.1.weight"] == (7, 256)
    assert not any(name.startswith("heads") and name.endswith("bias") for name in shapes)
    assert "inputs" not in dict(controller.named_parameters())
    assert controller().shape == (15,)


def test_inputs_are_orthogonal():
    rows = Controller([4] * 6).inputs[:, 0]
    torch.testing.assert_close(rows @ rows.T, torch.eye(6), atol=1e-5, rtol=0)


def test_everything_is_kept_at_first():
    controller = Controller([64, 32])
    logits = controller()
    probability = controller.keep_probability(logits).detach()
    assert float(probability.min()) > 0.99
    assert float(probability.mean()) > 0.999


@pytest.mark.parametrize(
    ("logit", "kept"),
    [(-3.0, 1 - math.exp(-1)), (0.0, 1 - math.exp(-math.exp(3))), (math.log(math.log(2)) - 3, 0.5), (-8.0, 0.0067153)],
)
def test_keep_probability_by_hand(logit, kept):
    probability = Controller([1]).keep_probability(torch.tensor([logit], dtype=torch.float64))
    assert float(probability) == pytest.approx(kept, rel=1e-4)


def test_keep_probability_is_the_frequency_of_hard_bits():
    controller = Controller([1])
    generator = torch.Generator().manual_seed(0)
    for logit in (-4.5, -3.37, -2.5):
        logits = torch.full((100_000,), logit)
        frequency = float(controller.hard(logits, generator).mean())
        assert frequency == pytest.approx(float(controller.keep_probability(logits[:1])), abs=0.006)


def test_gumbel_is_one_draw_with_the_standard_mean():
    noise = gumbel(torch.Size([200_000]), torch.Generator().manual_seed(1))
    assert float(noise.mean()) == pytest.approx(0.57722, abs=0.01)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)


def test_soft_bits_by_hand():
    controller = Controller([1])
    noise = gumbel(torch.Size([1]), torch.Generator().manual_seed(3))
    soft = controller.soft(torch.tensor([-3.5]), torch.Generator().manual_seed(3))
    assert float(soft) == pytest.approx(1 / (1 + math.exp(-(-3.5 + float(noise) + 3.0) / 0.4)), rel=1e-5)


def test_straight_through():
    soft = torch.tensor([0.2, 0.5, 0.9], requires_grad=True)
    bits = straight_through(soft)
    assert bits.tolist() == [0.0, 1.0, 1.0]
    (bits * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert soft.grad is not None
    assert soft.grad.tolist() == [1.0, 2.0, 3.0]


def test_same_seed_same_controller_and_global_random_state_untouched():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, third = Controller([4, 4], seed=1), Controller([4, 4], seed=1), Controller([4, 4], seed=2)
    first.hard(first(), torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first(), second())
    assert not torch.equal(first(), third())
