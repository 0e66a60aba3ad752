"""Nets whose difficulty is a pointwise operation: what is zero at zero, what broadcasting ties, what a number means."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PINNED, PRUNABLE, Family, Sandwich, conv, image, tokens

family = Family()


class Pointwise(Sandwich):
    """``conv1 -> function -> conv2``."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def trap(self, x: Tensor) -> Tensor:
        return self.function(x)


def _zero_preserving() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "activations": lambda x: F.gelu(F.silu(F.leaky_relu(F.elu(F.mish(F.hardswish(torch.tanh(x)))), 0.1))),
        "more_activations": lambda x: F.selu(F.celu(F.tanhshrink(F.softsign(F.softshrink(F.hardtanh(x), 0.1))))),
        "relu6": lambda x: F.relu6(x + x) - F.relu(-x),
        "clamp_through_zero": lambda x: x.clamp(min=-0.5, max=6),
        "square": lambda x: x**2 + x.pow(3) + torch.square(x),
        "expm1": lambda x: torch.expm1(x) + torch.sin(x) * 2,
        "log1p": lambda x: torch.log1p(F.relu(x)) - x.abs().sqrt(),
        "multiple": lambda x: 3 * x / 2.0 - x * -1,
        "negative_number_first": lambda x: -x.neg().mul(0.5).div(0.25),
        "divided_by_more_than_zero": lambda x: x / (x.abs() + 1) + x.div(1 + x * x),
        "minus_itself": lambda x: x - 0.5 * x.detach().clone().contiguous(),
        "sign_and_rounding": lambda x: x.sign() + torch.floor(x * 4) + x.trunc(),
        "scaled_by_inverse_root_of_width": lambda x: x * x.shape[1] ** -0.5,
        "divided_by_width": lambda x: x / x.size(1) + x.mul(1.0 / x.shape[-3]),
        "maximum_with_zero": lambda x: torch.maximum(x, torch.zeros_like(x)) + x.clamp_min(0),
        "indicator_times_value": lambda x: (x > 0).to(x.dtype) * x,
        "where_zero": lambda x: torch.where(x > 0, x, 0.1 * x),
        "type_round_trip": lambda x: x.float().double() + x.to(torch.float64).type_as(x),
        "pooled_and_added": lambda x: x + x.mean((2, 3), keepdim=True) + F.adaptive_max_pool2d(x, 1),
        "normalised_in_space": lambda x: x / (x.square().mean((2, 3), keepdim=True).sqrt() + 1e-6),
        "upsampled": lambda x: (
            F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0, mode="bilinear") - F.avg_pool2d(x, 1)
        ),
        "interpolated_to_a_size": lambda x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="nearest"),
        "dropout_off": lambda x: F.dropout(x, 0.0) + F.dropout2d(x, 0.0, training=False),
    }


def _not_zero_at_zero() -> dict[str, tuple[Callable[[Tensor], Tensor], str]]:
    return {
        "sigmoid": (torch.sigmoid, "sigmoid(0) = 0.5 reaches a padded convolution"),
        "cosine": (torch.cos, "cos(0) = 1"),
        "exponential": (lambda x: torch.exp(torch.tanh(x)), "exp(0) = 1"),
        "softplus": (F.softplus, "softplus(0) = log 2"),
        "hardsigmoid": (F.hardsigmoid, "hardsigmoid(0) = 0.5"),
        "clamp_above_zero": (lambda x: x.clamp(min=1), "clamp(0, min=1) = 1"),
        "threshold": (lambda x: F.threshold(x, 0.1, 20.0), "threshold(0) = 20"),
        "power_zero": (lambda x: x**0, "0 ** 0 = 1"),
        "plus_number": (lambda x: x + 1, "0 + 1 = 1"),
        "number_minus": (lambda x: 1 - x, "1 - 0 = 1"),
        "masked_fill": (lambda x: x.masked_fill(x < 0.1, 5.0), "a dropped channel is filled with 5"),
        "is_zero": (lambda x: (x == 0).double(), "0 == 0 is 1"),
        "threshold_of_shifted": (lambda x: F.threshold(x + 7, 5.0, 0.0), "at zero the value is 7, above the threshold"),
        "selected_by_shifted": (lambda x: torch.where(x + 7 > 5, x + 7, 0.0), "at zero the condition holds"),
        "equal_to_shift": (lambda x: (x + 7 == 7).double() + x, "at zero, and only there, the comparison holds"),
        "shrunk_after_shift": (lambda x: F.hardshrink(x + 7, 5.0), "at zero the value is beyond the threshold"),
        "remainder_of_shifted": (lambda x: torch.remainder(x.round() + 7, 10.0), "7 modulo 10 is 7"),
        "where_one": (lambda x: torch.where(x > 0, x, torch.ones_like(x)), "where() picks the one at zero"),
        "plus_ones": (
            lambda x: x + torch.ones(x.shape[0], x.shape[1], x.shape[2], x.shape[3]),
            "a tensor of ones is added",
        ),
        "divided_by_own_norm": (
            lambda x: x / x.square().mean((2, 3), keepdim=True).sqrt(),
            "0 / 0 is not a number, and spreads",
        ),
    }


for _name, _function in _zero_preserving().items():
    family.add(
        f"zero_preserving_{_name}",
        lambda function=_function: Pointwise(function),
        image(),
        "Zero at zero: every channel must be prunable on its own, and no number may change.",
        PRUNABLE,
    )
for _name, (_function, _why) in _not_zero_at_zero().items():
    family.add(
        f"not_zero_{_name}",
        lambda function=_function: Pointwise(function),
        image(),
        f"{_why}: what is consumed by a convolution while not zero must be pinned.",
        PINNED,
    )


@family.case(image(), {"conv1.weight:0": (8, 8)})
class NotZeroIntoLinear(nn.Module):
    """A constant that reaches a linear layer: folded into its bias, never lost."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(self.conv1(x)).mean((2, 3)))


@family.case(image(), PRUNABLE | {"fc1.weight:1": (8, 8), "fc1.weight:0": (4, 4), "fc2.weight:0": (8, 8)})
class SqueezeExcite(nn.Module):
    """A sigmoid gate is not zero, but multiplies a zero: prunable, inside and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc1 = conv(8, 4, 1)
        self.fc2 = conv(4, 8, 1)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))
        return self.conv2(gate * x)


@family.case(image(), PRUNABLE | {"fc1.weight:1": (8, 8), "fc1.weight:0": (4, 4), "fc2.weight:0": (8, 8)})
class SqueezeExciteLinear(nn.Module):
    """The same with linear layers, views to literals and a hand-made hard sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc1 = nn.Linear(8, 4)
        self.fc2 = nn.Linear(4, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        gate = x.mean((2, 3)).view(-1, 8)
        gate = F.relu6(self.fc2(F.relu(self.fc1(gate))) + 3) / 6
        return self.conv2(x * gate.view(x.shape[0], 8, 1, 1))


@family.case(image(), PRUNABLE)
class SpatialGate(nn.Module):
    """A one-channel map multiplies all channels by broadcasting and must not tie them to one another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.map = conv(8, 1)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(x * torch.sigmoid(self.map(x)))


_LEVELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "exceeds_five": lambda one, y: one * 10 > y + 5,
    "cut_to_whole_numbers": lambda one, y: torch.div(one * 10, y + 5, rounding_mode="trunc"),
    "equals_four": lambda one, y: (one * 10).int() == y.int() + 4,
    "exceeds_both": lambda one, y: (one * 10 > y + 5) & (y >= 0),
}
for _name, _level in _LEVELS.items():

    class OneChannelMeetsLevels(nn.Module):
        """One channel is compared with channels that are a number once they are dropped: few probes cannot tell."""

        def __init__(self, level: Callable[[Tensor, Tensor], Tensor]) -> None:
            super().__init__()
            self.conv1, self.one, self.conv2 = conv(3, 8), conv(3, 1), conv(8, 4)
            self.level = level

        def forward(self, x: Tensor) -> Tensor:
            return self.conv2(self.level(self.one(x), self.conv1(x).relu()).to(x.dtype))

    family.add(
        f"one_channel_{_name}",
        lambda level=_level, net=OneChannelMeetsLevels: net(level),
        image(),
        "What one channel of any value makes of constants other than zero is not known.",
        {"conv1.weight:0": 0},
    )


@family.case(image(), PINNED)
class SpatialShift(nn.Module):
    """A one-channel map is added to all channels by broadcasting: none is zero any more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.map = conv(3, 1)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x) + self.map(x))


@family.case(image(), {"conv1.weight:0": (16, 8), "conv2.weight:1": (8, 8)})
class GatedLinearUnit(Sandwich):
    """glu multiplies the first half with the gated second: channel i is tied to channel i + 8."""

    width = 16

    def trap(self, x: Tensor) -> Tensor:
        return F.glu(x, dim=1)


@family.case(tokens(), {"fc1.weight:0": (16, 8), "fc2.weight:1": (8, 8)})
class SwishGatedLinearUnit(nn.Module):
    """SwiGLU with chunk on the last dimension and silu as gate."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.fc1(x).chunk(2, dim=-1)
        return x + self.fc2(F.silu(a) * b)


@family.case(image(), PRUNABLE | {"act.weight:0": (8, 8)})
class PReLUByChannel(nn.Module):
    """PReLU with a slope a channel: the slopes are cut with the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.act = nn.PReLU(8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.act(self.conv1(x)))


@family.case(image(), PRUNABLE | {"act.weight:0": 0})
class PReLUShared(nn.Module):
    """PReLU with one slope for all channels: nothing to cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.act = nn.PReLU()
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.act(self.conv1(x)))


@family.case(image(), PRUNABLE | {"gamma:0": (8, 8)})
class LayerScale(Sandwich):
    """A parameter of shape (8, 1, 1) scales the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8, 1, 1))

    def trap(self, x: Tensor) -> Tensor:
        return x * self.gamma


@family.case(image(), {"stem.weight:0": (8, 8), "conv1.weight:0": (8, 8), "gamma:0": (8, 8)})
class LayerScaleInResidual(nn.Module):
    """A scaled branch is added: the scale alone does not make the sum zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 8)
        self.gamma = nn.Parameter(torch.ones(8))
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.conv2(x + self.gamma.view(1, -1, 1, 1) * self.conv1(x))


@family.case(image(), PRUNABLE | {"shift:1": (8, 8)})
class AddedParameter(Sandwich):
    """An added parameter is a producer: it is zeroed and cut with the channel."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 8, 1, 1))

    def trap(self, x: Tensor) -> Tensor:
        return F.relu(x + self.shift)


@family.case(image())
class AddedBuffer(Sandwich):
    """An added buffer makes the channel non-zero: pinned, or treated as a producer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.ones(8, 1, 1))

    def trap(self, x: Tensor) -> Tensor:
        return x - self.shift


@family.case(image(), PRUNABLE | {"scale:0": (8, 8)})
class ScalingBuffer(Sandwich):
    """A buffer that scales the channels is cut with them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.arange(1.0, 9.0))

    def trap(self, x: Tensor) -> Tensor:
        return x * self.scale[None, :, None, None]


@family.case(tokens(), {"fc1.weight:0": (8, 8), "position:2": (8, 8), "position:1": 0, "fc2.weight:1": (8, 8)})
class AddedPositions(nn.Module):
    """Position embeddings are added along tokens and channels: cut along the channels only."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.position = nn.Parameter(torch.zeros(1, 5, 8))
        self.fc2 = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x) + self.position))


@family.case(image())
class ParameterFromOneToMany(Sandwich):
    """A one-channel image meets a parameter of 8 channels by broadcasting: the parameter produces the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 1)
        self.spread = nn.Parameter(torch.ones(8, 1, 1))

    def trap(self, x: Tensor) -> Tensor:
        return x * self.spread


@family.case(image(), PRUNABLE)
class ZerosAdded(Sandwich):
    """Zeros of a literal width are added: the literal must shrink."""

    def trap(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        return x + torch.zeros(b, 8, h, w)


@family.case(image(), {"conv1.weight:0": (8, 8)})
class ZerosJoined(Sandwich):
    """Zeros of a literal width are joined: that literal is no width of any parameter."""

    seen = 12

    def trap(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(x.size(0), 4, x.size(2), x.size(3))], 1)


@family.case(image())
class OnesJoined(Sandwich):
    """A channel of ones is joined: constant and never zero."""

    seen = 9

    def trap(self, x: Tensor) -> Tensor:
        return torch.cat([x.new_ones(x.shape[0], 1, x.shape[2], x.shape[3]), x], 1)


@family.case(image())
class RangeLiteral(Sandwich):
    """Channel i is scaled by i, made with a literal range: pinned, or cut to the kept numbers."""

    def trap(self, x: Tensor) -> Tensor:
        return x * torch.arange(8).view(1, 8, 1, 1)


@family.case(image())
class RangeFromSize(Sandwich):
    """The range is computed from the width, so a narrower net would silently make another one."""

    def trap(self, x: Tensor) -> Tensor:
        return x * torch.arange(x.shape[1], device=x.device).to(x.dtype)[:, None, None]


@family.case(image())
class FullFromSize(Sandwich):
    """A constant of the width's size, filled with the width."""

    def trap(self, x: Tensor) -> Tensor:
        return x * torch.full((x.shape[1], 1, 1), 1.0 / x.shape[1], dtype=x.dtype)


@family.case(image())
class CoordinatesJoined(nn.Module):
    """CoordConv: two maps of coordinates are joined to the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.conv2 = conv(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        b, _, h, w = x.shape
        rows = torch.linspace(-1, 1, 6).view(1, 1, 6, 1).expand(b, 1, h, w)
        columns = torch.linspace(-1, 1, 6).view(1, 1, 1, 6).expand(b, 1, h, w)
        return self.conv2(torch.cat([x, rows, columns], 1))


class TwoPointwise(nn.Module):
    """Two stems meet in a function of two tensors."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.side = conv(3, 8)
        self.conv2 = conv(8, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.function(self.conv1(x), self.side(x)))


def _of_two() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "sum": lambda x, y: x + 2 * y,
        "difference": lambda x, y: torch.sub(x, y, alpha=2),
        "product": lambda x, y: x * torch.tanh(y),
        "maximum": torch.maximum,
        "minimum": lambda x, y: torch.min(x, y),
        "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
        "lerp": lambda x, y: torch.lerp(x, y, 0.3),
        "hypotenuse": lambda x, y: torch.sqrt(x * x + y.pow(2)),
        "where": lambda x, y: torch.where(y > 0.1, x, y),
        "highway": lambda x, y: torch.sigmoid(y) * x + (1 - torch.sigmoid(y)) * x.tanh(),
    }


for _name, _two in _of_two().items():
    family.add(
        f"of_two_{_name}",
        lambda function=_two: TwoPointwise(function),
        image(),
        "Two stems meet channel by channel: both must be cut alike.",
        {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "conv2.weight:1": (8, 8)},
    )


@family.case(image())
class SigmoidMeetsTanh(nn.Module):
    """An LSTM-like gate: sigmoid times tanh is zero, sigmoid plus tanh is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.side = conv(3, 8)
        self.conv2 = conv(8, 4)
        self.conv3 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.sigmoid(self.conv1(x)), torch.tanh(self.side(x))
        return self.conv2(a * b) + self.conv3(a + b)


@family.case(image(), {"conv1.weight:0": 0, "side.weight:0": 0})
class SigmoidTimesSigmoid(nn.Module):
    """Two gates multiplied are not zero at zero: pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.side = conv(3, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.sigmoid(self.conv1(x)) * torch.sigmoid(self.side(x)))


@family.case(image())
class ConstantShiftUndone(Sandwich):
    """(x + 3) - 3 is zero at zero although x + 3 is not; a gate behind x would do, one behind x + 3 would not."""

    def trap(self, x: Tensor) -> Tensor:
        return torch.clamp(x + 3, 0, 6) - 3


@family.case(image())
class ShiftUndoneByParameter(Sandwich):
    """One minus a parameter is a producer of its own kind: at a zeroed parameter it is one."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((8, 1, 1), 0.3))

    def trap(self, x: Tensor) -> Tensor:
        return self.alpha * x + (1 - self.alpha) * torch.tanh(x)


@family.case(image())
class ParameterThroughSigmoid(Sandwich):
    """A parameter passes a sigmoid before it scales or shifts: zeroing it does not make the shift zero."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((8, 1, 1), 0.3))
        self.beta = nn.Parameter(torch.full((1, 8, 1, 1), 0.3))

    def trap(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.alpha) + torch.exp(self.beta)


@family.case(image(), PRUNABLE)
class DropoutModules(nn.Module):
    """Dropout switched off by its probability."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.drop = nn.Sequential(nn.Dropout(0.0), nn.Dropout2d(0.0), nn.Identity())
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.drop(self.conv1(x)))


@family.case(image())
class AlphaDropout(Sandwich):
    """Alpha dropout puts a constant where it drops, so a zero channel is not zero in training with a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Sequential(nn.AlphaDropout(0.0), nn.FeatureAlphaDropout(0.0))

    def trap(self, x: Tensor) -> Tensor:
        return self.drop(x)


@family.case(image(), PRUNABLE, modes=("eval",))
class DropoutFunctional(Sandwich):
    """Functional dropout reads the module's mode."""

    def trap(self, x: Tensor) -> Tensor:
        return F.dropout(x, p=0.5, training=self.training)


@family.case(image(), {"stem.weight:0": (8, 8), "conv1.weight:0": (8, 8)})
class StochasticDepthByHand(nn.Module):
    """A branch is kept by a random number for each sample, here always one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        kept = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0)
        return self.conv2(x + self.conv1(x) * kept)


@family.case(image(), {"stem.weight:0": (8, 8), "conv1.weight:0": (8, 8)})
class StochasticDepth(nn.Module):
    """torchvision's stochastic depth, switched off by its probability."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.ops import StochasticDepth as Drop

        self.stem = conv(3, 8)
        self.conv1 = conv(8, 8)
        self.drop = Drop(0.0, "row")
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.conv2(x + self.drop(self.conv1(x)))


@family.case(image(), PRUNABLE | {"film.weight:0": (16, 8), "film.bias:0": (16, 8)})
class FeatureWiseModulation(nn.Module):
    """FiLM: a vector predicts a factor and a shift for each channel; both go with the channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.film = nn.Linear(3, 16)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        factor, shift = self.film(x.mean((2, 3))).chunk(2, dim=1)
        return self.conv2(self.conv1(x) * (1 + factor[:, :, None, None]) + shift[:, :, None, None])


@family.case(image())
class LiteralTensor(Sandwich):
    """Factors written out as numbers, one for each channel."""

    def trap(self, x: Tensor) -> Tensor:
        return x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).view(1, -1, 1, 1)


@family.case(image())
class RunningAverageByHand(Sandwich):
    """A buffer follows the mean of each channel in place: tracing must not move it, a step moves it everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.full((8,), 0.2))

    def trap(self, x: Tensor) -> Tensor:
        self.average.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
        return x * self.average[:, None, None]


@family.case(image())
class OutKeyword(Sandwich):
    """The result is written into another tensor by ``out=``; it is that tensor which is read."""

    def trap(self, x: Tensor) -> Tensor:
        free = x.detach()
        y = torch.empty_like(free)
        torch.add(free, 1.0, out=y)
        z = free * 2
        torch.sigmoid(free, out=z)
        return y * x + z


@family.case(image())
class ReadAfterOutKeyword(Sandwich):
    """What ``out=`` fills was zero-preserving before."""

    def trap(self, x: Tensor) -> Tensor:
        free = x.detach()
        y = free * 2
        torch.cos(free, out=y)
        return y


@family.case(image())
class DividedByElementCount(Sandwich):
    """The number of elements counts channels, pixels and samples: the old channels, but the new samples."""

    def trap(self, x: Tensor) -> Tensor:
        return x * (x.numel() / 1000) + x * (x.shape[0] * x.shape[1])


class Divided(Sandwich):
    """Channels are divided by a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 1)


@family.case(image(), PRUNABLE | {"scale:0": (8, 8)})
class DividedByParameter(Divided):
    """A divisor is cut, but never set to zero: zero divided by it stays zero."""

    def trap(self, x: Tensor) -> Tensor:
        return x / self.scale


@family.case(image(), PINNED | {"scale:0": 0})
class DividedAndShifted(Divided):
    """The vector would have to be zero where it is added, and must not be where it divides."""

    def trap(self, x: Tensor) -> Tensor:
        return x / self.scale + self.scale


@family.case(image(), PRUNABLE | {"scale:0": (8, 8)})
class MultipliedByReciprocal(Divided):
    """The reciprocal of zero is infinite, also where zero is multiplied with it."""

    def trap(self, x: Tensor) -> Tensor:
        return x * self.scale.reciprocal()
