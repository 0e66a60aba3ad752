"""Time by layer, on a clock that layers move."""

import pytest
import torch
from torch import Tensor, nn

from atofx.bench import LayerTime, Rounds, layer_times
from atofx.bench.layers import ELSEWHERE
from tests.bench.clocks import FakeClock


class Slow(nn.Module):
    """A layer of a given duration."""

    def __init__(self, clock: FakeClock, *seconds: float) -> None:
        super().__init__()
        self.step = clock.run("layer", *seconds)

    def forward(self, x: Tensor) -> Tensor:
        self.step()
        return x


class Net(nn.Module):
    """One layer twice, one inside a block, and something between layers."""

    def __init__(self, clock: FakeClock, twice: float, inside: float, between: float) -> None:
        super().__init__()
        self.twice, self.block = Slow(clock, twice), nn.Sequential(Slow(clock, inside))
        self.between = clock.run("between", between)
        if inside == 3.0:
            self.extra = nn.Identity()  # never called

    def forward(self, x: Tensor) -> Tensor:
        self.between()
        return self.block(self.twice(self.twice(x)))


def test_calls_add_up_and_the_rest_is_between_layers():
    clock = FakeClock()
    dense, compact = Net(clock, 2.0, 3.0, 1.0), Net(clock, 1.0, 2.5, 1.0)
    found = layer_times(dense, compact, torch.ones(1), Rounds(1, 3, 3, 0.0), clock)
    assert found == (
        LayerTime("twice", "Slow", 4.0, 2.0),
        LayerTime("block.0", "Slow", 3.0, 2.5),
        LayerTime(ELSEWHERE, "", 1.0, 1.0),
    )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in dense.modules())


def test_what_layers_lose_adds_up_to_what_the_model_loses():
    layers = (LayerTime("a", "", 4.0, 2.0), LayerTime("b", "", 3.0, 2.5), LayerTime("c", "", 1.0, 1.0))
    assert [layer.lost(0.5) for layer in layers] == [0.0, 1.0, 0.5]
    assert sum(layer.lost(0.5) for layer in layers) == pytest.approx(5.5 - 0.5 * 8.0)
