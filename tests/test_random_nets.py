"""Random nets keep every promise; `benchmarks/fuzz.py` runs many more of them."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, note, seed, settings
from hypothesis import strategies as st

from tests import invariants
from tests.generator import draw_net, net_of_seed

PARTS = 4
NETS = 200


@pytest.mark.parametrize("part", range(PARTS))
def test_promises_hold(part: int) -> None:
    """Hypothesis draws the choices, and shrinks a net that fails to its fewest steps."""

    @seed(part)
    @settings(
        max_examples=NETS // PARTS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False), st.integers(0, 2**16))
    def hold(source: random.Random, number: int) -> None:
        net, inputs = draw_net(source)
        note(str(net))
        try:
            invariants.hold(net, inputs, number)
        except invariants.UnsuitableError:
            assume(False)

    hold()


def test_a_seed_gives_one_net() -> None:
    """What the fuzz run reports can be had again from the number alone."""
    for number in range(5):
        first, second = net_of_seed(number), net_of_seed(number)
        assert str(first[0]) == str(second[0])
        weights = zip(first[0].state_dict().values(), second[0].state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in weights)
        assert torch.equal(first[1](2), second[1](2))


def test_nets_are_prunable() -> None:
    """The promises are not kept by pinning everything."""
    shares = []
    for number in range(20):
        net, inputs = net_of_seed(number)
        shares.append(invariants.prunable_share(invariants.trace(net, inputs(2)).program))
    assert sum(shares) / len(shares) > 0.5
