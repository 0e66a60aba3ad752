"""Blocks without gradients have none in graphs either: compact models train as the model does."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import atofx
from tests.models.case import conv


class Block(nn.Module):
    """A part of it is computed without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.apart, self.last = conv(3, 8), conv(8, 8), conv(8, 2)

    def part(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.sigmoid(self.apart(y))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        return self.last(y * self.part(y) + y.mean((2, 3), keepdim=True)).mean((2, 3))


class Decorated(Block):
    @torch.no_grad()
    def part(self, y: Tensor) -> Tensor:
        return torch.sigmoid(self.apart(y))


class Inference(Block):
    def part(self, y: Tensor) -> Tensor:
        with torch.set_grad_enabled(False):
            z = self.apart(y) * 2
        return torch.sigmoid(z)


class GradientsInside(Block):
    def part(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.tanh(y)
            with torch.enable_grad():
                z = self.apart(z)
        return z


class OfTheWeight(Block):
    def part(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.apart.weight.abs().mean((1, 2, 3)).reshape(1, -1, 1, 1)
        return self.apart(y) / (scale + 1)


class Recurrent(Block):
    def __init__(self) -> None:
        super().__init__()
        self.states = nn.GRU(8, 8, batch_first=True)

    def part(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            states, _ = self.states(y.flatten(2).transpose(1, 2))
        return states.mean(1)[:, :, None, None]


class Average(Block):
    """Keeps a running mean in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.ones(8))

    def part(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            self.average.mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
        return self.average.reshape(1, -1, 1, 1) * self.apart(y)


class ScaledInPlace(Block):
    """Changes what comes in, in place."""

    def part(self, y: Tensor) -> Tensor:
        z = self.apart(y)
        with torch.no_grad():
            z.mul_(0.5)
        return z + 1


class Clamped(Block):
    """Changes a parameter in place before it is used."""

    def part(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            self.apart.bias.clamp_(-0.1, 0.1)
        return self.apart(y)


class Spectral(Block):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.apart)

    def part(self, y: Tensor) -> Tensor:
        return self.apart(y)


def gradients(module: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    module.zero_grad()
    module(x).square().sum().backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


KINDS = [Block, Decorated, Inference, GradientsInside, OfTheWeight, Recurrent, Average, Spectral]
#: What torch.export records as a new tensor, which has no gradient in such a block.
IN_PLACE = [ScaledInPlace, Clamped]


@pytest.mark.parametrize(("kind", "frontend"), [*product(KINDS, ["auto", "export"]), *product(IN_PLACE, ["symbolic"])])
def test_gradients_are_the_models(kind: type[Block], frontend: str) -> None:
    torch.manual_seed(0)
    model, x = kind().double().train(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():  # of whoever traces, which says nothing of the model
        program = atofx.trace(copy.deepcopy(model), x, frontend=frontend)
    compact = program.compact(program.full_mask())
    of_module = gradients(copy.deepcopy(program.module), x)
    of_compact = gradients(compact, x)
    expected = gradients(model, x)
    for name, found in (("module", of_module), ("compact", of_compact)):
        for parameter, gradient in found.items():
            other = expected[parameter]
            assert (gradient is None) == (other is None), f"{name}: {parameter}"
            assert gradient is None or torch.allclose(gradient, other, rtol=1e-9, atol=1e-12), f"{name}: {parameter}"
    report = program.verify(program.random_mask(keep=0.5, seed=0))
    assert report.ok, str(report)


def test_a_model_without_such_blocks_has_no_detached_tensors() -> None:
    program = atofx.trace(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 2)), torch.randn(2, 3, 6, 6))
    assert all(node.target != "detach" for node in program.module.graph.nodes)
