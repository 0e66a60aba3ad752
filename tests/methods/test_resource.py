import math

import pytest
import torch

from atofx.methods.resource import resource_loss, weight


@pytest.mark.parametrize(
    ("kept", "target", "loss", "slope"),
    [
        (1.0, 0.5, math.log(2), 1.0),  # above: ln(1 / 0.5), d/dkept = 1 / kept
        (0.8, 0.5, math.log(1.6), 1.25),
        (0.25, 0.5, math.log(2), -4.0),  # below: ln(0.5 / 0.25)
        (0.502, 0.5, math.log(0.505 / 0.5), 0.0),  # inside the band: a constant, no gradient
        (0.498, 0.5, math.log(0.5 / 0.495), 0.0),
        (0.5, 0.5, math.log(0.5 / 0.495), 0.0),
        (0.0, 0.5, math.log(0.5 / 1e-6), 0.0),  # nothing kept stays finite
    ],
)
def test_by_hand(kept, target, loss, slope):
    value = torch.tensor(kept, dtype=torch.float64, requires_grad=True)
    result = resource_loss(value, target)
    assert float(result.detach()) == pytest.approx(loss, rel=1e-9)
    result.backward()
    assert float(value.grad) == pytest.approx(slope, rel=1e-9)


def test_weight_is_doubled_as_in_the_authors_code():
    assert weight() == 8.0
    assert weight(1.5) == 3.0
