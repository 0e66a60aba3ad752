"""Nets whose difficulty is a norm: its statistics, its parameters, what it averages over."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PRUNABLE, Expected, Family, Sandwich, conv, image, tokens, vectors

family = Family()


class Normed(Sandwich):
    """``conv1 -> norm -> relu -> conv2``."""

    def __init__(self, norm: Callable[[], nn.Module], relu: bool = True) -> None:
        super().__init__()
        self.norm = norm()
        self.relu = relu

    def trap(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return F.relu(x) if self.relu else x


AFFINE: dict[str, Expected] = {"norm.weight:0": (8, 8), "norm.bias:0": (8, 8)}
TRACKED: dict[str, Expected] = {"norm.running_mean:0": (8, 8), "norm.running_var:0": (8, 8)}


def _norms() -> dict[str, tuple[Callable[[], nn.Module], dict[str, Expected], str]]:
    prunable = dict(PRUNABLE)
    return {
        "batch": (
            lambda: nn.BatchNorm2d(8),
            prunable | AFFINE | TRACKED,
            "batch norm: statistics are cut, never zeroed",
        ),
        "batch_without_affine": (
            lambda: nn.BatchNorm2d(8, affine=False),
            {},
            "no weight to zero: minus the running mean a zero channel is not zero in eval mode",
        ),
        "batch_without_statistics": (
            lambda: nn.BatchNorm2d(8, track_running_stats=False),
            prunable | AFFINE,
            "batch statistics in eval mode too",
        ),
        "batch_bare": (
            lambda: nn.BatchNorm2d(8, affine=False, track_running_stats=False),
            prunable,
            "neither parameters nor statistics: a zero channel stays zero",
        ),
        "batch_cumulative": (
            lambda: nn.BatchNorm2d(8, momentum=None),
            prunable | AFFINE | TRACKED,
            "a cumulative average counts its batches in a buffer",
        ),
        "instance": (lambda: nn.InstanceNorm2d(8), prunable, "instance norm without parameters"),
        "instance_affine": (
            lambda: nn.InstanceNorm2d(8, affine=True),
            prunable | AFFINE,
            "instance norm with parameters",
        ),
        "instance_tracked": (
            lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
            prunable | AFFINE | TRACKED,
            "instance norm with running statistics",
        ),
        "group": (
            lambda: nn.GroupNorm(4, 8),
            {"conv1.weight:0": (8, 4), "norm.weight:0": (8, 4)},
            "as many groups as channels in one, or more: whole groups go",
        ),
        "group_wide": (
            lambda: nn.GroupNorm(2, 8),
            {"conv1.weight:0": (8, 4), "norm.weight:0": (8, 4), "norm.bias:0": (8, 4)},
            "fewer groups than channels in one: a channel of every group goes, and still counts",
        ),
        "group_without_affine": (
            lambda: nn.GroupNorm(2, 8, affine=False),
            {"conv1.weight:0": 0},
            "without a weight, minus the mean is left of a channel at zero",
        ),
        "group_of_one": (
            lambda: nn.GroupNorm(1, 8),
            prunable | AFFINE,
            "group norm over all channels and pixels: those that are gone still count",
        ),
        "group_each": (
            lambda: nn.GroupNorm(8, 8),
            prunable | AFFINE,
            "group norm with a group for each channel is an instance norm",
        ),
        "layer_whole": (
            lambda: nn.LayerNorm([8, 6, 6]),
            prunable | AFFINE,
            "layer norm over channels and pixels: those that are gone still count",
        ),
        "layer_in_space": (
            lambda: nn.LayerNorm([6, 6]),
            {"norm.weight:0": 0, "norm.bias:0": 0, "conv1.weight:0": 0},
            "layer norm over pixels only: its bias is added to dropped channels too",
        ),
        "layer_in_space_without_affine": (
            lambda: nn.LayerNorm([6, 6], elementwise_affine=False),
            prunable,
            "layer norm over pixels without parameters keeps a zero channel zero",
        ),
        "local_response": (
            lambda: nn.LocalResponseNorm(3, k=2.0),
            {"conv1.weight:0": 0, "conv2.weight:1": 0},
            "neighbours in a window of channels: pinned",
        ),
    }


for _name, (_norm, _expect, _trap) in _norms().items():
    family.add(f"norm_{_name}", lambda norm=_norm: Normed(norm), image(), _trap, _expect)
    family.add(
        f"norm_{_name}_without_relu", lambda norm=_norm: Normed(norm, relu=False), image(), f"{_trap}; no relu", _expect
    )


@family.case(image(), PRUNABLE | {"scale:0": (8, 8), "shift:0": (8, 8), "mean:0": (8, 8), "var:0": (8, 8)})
class FunctionalBatchNorm(Sandwich):
    """F.batch_norm on bare parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("mean", torch.full((8,), 0.3))
        self.register_buffer("var", torch.full((8,), 0.7))

    def trap(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, self.scale, self.shift)


@family.case(image())
class FrozenBatchNorm(Sandwich):
    """torchvision's frozen batch norm: weight and bias are buffers, the arithmetic is written out."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.ops import FrozenBatchNorm2d

        self.norm = FrozenBatchNorm2d(8)

    def trap(self, x: Tensor) -> Tensor:
        return self.norm(x)


@family.case(
    image(), {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "norm.weight:0": (16, 16), "norm2.weight:0": (19, 19)}
)
class PreActivation(nn.Module):
    """A dense block: every norm has parameters for every earlier channel, all must be zero for the channel to go."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 8)
        self.norm, self.grow = nn.BatchNorm2d(16), conv(16, 3)
        self.norm2, self.conv2 = nn.BatchNorm2d(19), conv(19, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.conv1(x), self.side(x)]
        features.append(self.grow(F.relu(self.norm(torch.cat(features, 1)))))
        return self.conv2(F.relu(self.norm2(torch.cat(features, 1))))


@family.case(image(), {"stem.weight:0": (8, 8), "conv1.weight:0": (7, 7), "conv2.weight:0": (8, 8)})
class PreActivationResidual(nn.Module):
    """The stream itself has no norm; two norms read it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.norm1, self.conv1 = nn.BatchNorm2d(8), conv(8, 7)
        self.norm2, self.conv2 = nn.BatchNorm2d(7), conv(7, 8)
        self.norm3, self.head = nn.BatchNorm2d(8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return self.head(F.relu(self.norm3(x)))


@family.case(image(), {"norm.weight:0": 0, "conv1.weight:0": (8, 8)})
class BatchNormOnImage(nn.Module):
    """A norm on the input image: its channels are given."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv1, self.conv2 = nn.BatchNorm2d(3), conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(self.norm(x)))


@family.case(image(), {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "norm.weight:0": (8, 8)})
class SharedNorm(nn.Module):
    """One norm serves two convolutions and so ties them, though their values never meet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 8)
        self.norm = nn.BatchNorm2d(8)
        self.conv2, self.conv3 = conv(8, 4), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.norm(self.conv1(x))) + self.conv3(F.relu(self.norm(self.side(x))))


family.add(
    "batch_norm_1d",
    lambda: nn.Sequential(nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 4, 2)),
    tokens(7, 6),
    "One-dimensional batch norm on sequences.",
    {"0.weight:0": (8, 8), "1.weight:0": (8, 8), "3.weight:1": (8, 8)},
)
family.add(
    "batch_norm_of_vectors",
    lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)),
    vectors(),
    "One-dimensional batch norm on vectors.",
    {"0.weight:0": (8, 8), "1.weight:0": (8, 8), "3.weight:1": (8, 8)},
)
family.add(
    "batch_norm_3d",
    lambda: nn.Sequential(nn.Conv3d(2, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 4, 2)),
    lambda batch: torch.randn(batch, 2, 4, 4, 4, dtype=torch.float64),
    "Three-dimensional batch norm.",
    {"0.weight:0": (8, 8), "1.weight:0": (8, 8), "3.weight:1": (8, 8)},
)
_TOKENS_PRUNABLE: dict[str, Expected] = {"0.weight:0": (8, 8), "3.weight:1": (8, 8)}
for _name, (_token_norm, _expect) in {
    "layer_norm": (lambda: nn.LayerNorm(8), _TOKENS_PRUNABLE | {"1.weight:0": (8, 8), "1.bias:0": (8, 8)}),
    "layer_norm_without_bias": (lambda: nn.LayerNorm(8, bias=False), _TOKENS_PRUNABLE),
    "layer_norm_bare": (lambda: nn.LayerNorm(8, elementwise_affine=False), {"0.weight:0": 0}),
    "rms_norm": (lambda: nn.RMSNorm(8), _TOKENS_PRUNABLE),
    "rms_norm_bare": (lambda: nn.RMSNorm(8, eps=1e-6, elementwise_affine=False), _TOKENS_PRUNABLE),
}.items():
    family.add(
        f"{_name}_over_channels",
        lambda norm=_token_norm: nn.Sequential(
            nn.Linear(6, 8), norm(), nn.GELU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 4)
        ),
        tokens(),
        "A norm over the channels of tokens: channels that are gone still count; what is left of a zero after the mean "
        "was taken off needs a weight to be zero again.",
        {"3.weight:0": (7, 7), "5.weight:1": (7, 7)} | _expect,
    )


@family.case(image(), {"expand.weight:0": (12, 12), "back.weight:1": (12, 12), "expand.weight:1": (8, 8)})
class ConvNeXtBlockWithoutNorm(nn.Module):
    """A depthwise convolution, linear layers channels last, a layer scale and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.depthwise = conv(8, 8, groups=8)
        self.expand, self.back = nn.Linear(8, 12), nn.Linear(12, 8)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.back(F.gelu(self.expand(self.depthwise(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return self.head((x + self.gamma * y).mean((2, 3)))


@family.case(
    image(),
    {"expand.weight:0": (12, 12), "back.weight:1": (12, 12), "expand.weight:1": (8, 8), "norm.weight:0": (8, 8)},
)
class ConvNeXtBlock(nn.Module):
    """The same with its layer norm: the residual stream is prunable all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.depthwise = conv(8, 8, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.expand, self.back = nn.Linear(8, 12), nn.Linear(12, 8)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.back(F.gelu(self.expand(y))).permute(0, 3, 1, 2)
        return self.head((x + self.gamma * y).mean((2, 3)))


@family.case(image())
class LayerNormChannelsFirst(Sandwich):
    """Layer norm over channels, written by hand on a channels-first tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def trap(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


@family.case(image())
class GlobalResponseNorm(Sandwich):
    """ConvNeXt V2: divided by the mean over channels of each channel's norm, scaled, shifted, added."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(1, 8, 1, 1)), nn.Parameter(torch.zeros(1, 8, 1, 1))

    def trap(self, x: Tensor) -> Tensor:
        length = x.square().sum((2, 3), keepdim=True).add(1e-6).sqrt()
        share = length / (length.mean(dim=1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


@family.case(image(), {"conv1.weight:0": (8, 8), "norm.weight:0": (8, 8)})
class NormOverConcatWithImage(nn.Module):
    """The image joins hidden channels in front of a norm: part of the norm is prunable, part is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.norm = nn.BatchNorm2d(11)
        self.conv2 = conv(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.norm(torch.cat([self.conv1(x), x], 1)))


@family.case(image(), modes=("eval",), may_refuse=True)
class SpectralNorm(nn.Module):
    """A hook computes the weight before each call: the module's weight is no parameter. Refused, or exact."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.utils.spectral_norm(conv(3, 8))
        self.conv2 = nn.utils.spectral_norm(conv(8, 6))
        self.conv3 = conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))


@family.case(image())
class ChannelsFoldedIntoBatch(nn.Module):
    """Each channel is an image of its own for a shared convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.each = conv(1, 2, bias=False)
        self.conv2 = conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        b, c, h, w = x.shape
        return self.conv2(self.each(x.reshape(b * c, 1, h, w)).reshape(b, c * 2, h, w))


@family.case(image(), {"conv1.weight:0": 0})
class NormOfChannelsFoldedIntoBatch(nn.Module):
    """The same with a batch norm behind: dropped channels would be part of its statistics, so pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.each = conv(1, 2)
        self.norm = nn.BatchNorm2d(2)
        self.conv2 = conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        b, c, h, w = x.shape
        return self.conv2(F.relu(self.norm(self.each(x.reshape(b * c, 1, h, w)))).reshape(b, c * 2, h, w))


@family.case(image())
class NormOverHeight(Sandwich):
    """Batch norm on a transposed image takes rows for channels and averages over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)

    def trap(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


@family.case(lambda batch: torch.randn(3, 6 + batch, 6, dtype=torch.float64), PRUNABLE)
class WithoutBatch(nn.Module):
    """An image without a batch dimension: channels come first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = conv(3, 8), nn.InstanceNorm2d(8, affine=True), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.max_pool2d(self.norm(self.conv1(x)), 2))


_BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "pow": lambda x: (x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True),
    "power": lambda x: ((x - x.mean(dim=1, keepdim=True)) ** 2).mean(dim=1, keepdim=True),
    "square": lambda x: torch.mean(torch.square(x - torch.mean(x, -3, True)), 1, keepdim=True),
    "squeezed": lambda x: torch.sub(x, x.mean((1,), keepdim=True)).square().mean(dim=[1]).unsqueeze(1),
    "over_pixels_too": lambda x: (x - x.mean((1, 2, 3), keepdim=True)).pow(2).mean((-1, 1, 2), keepdim=True),
}
for _name, _spread in _BY_HAND.items():

    class LayerNormByHand(Sandwich):
        """A layer norm over channels as ConvNeXt and SAM write it."""

        def __init__(self, spread: Callable[[Tensor], Tensor], dims: int | tuple[int, ...] = 1) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(8, 1, 1)), nn.Parameter(torch.zeros(8, 1, 1))
            self.spread, self.dims = spread, dims

        def trap(self, x: Tensor) -> Tensor:
            centred = x - x.mean(self.dims, keepdim=True)
            return centred / torch.sqrt(self.spread(x) + 1e-6) * self.weight + self.bias

    family.add(
        f"layer_norm_by_hand_{_name}",
        lambda spread=_spread, net=LayerNormByHand, dims=(1, 2, 3) if "pixels" in _name else 1: net(spread, dims),
        image(),
        "The mean of squared differences from the mean is a variance.",
        PRUNABLE,
    )


class _Spoiled(Sandwich):
    """Almost a variance."""

    def __init__(self, spread: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.spread = spread

    def trap(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(self.spread(x) + 1)


def _changed_between(x: Tensor) -> Tensor:
    difference = x - x.mean(1, keepdim=True)
    difference.mul_(3)
    return (difference * difference).mean(1, keepdim=True)


def _source_changed_between(x: Tensor) -> Tensor:
    x = x * 1
    centre = x.mean(1, keepdim=True)
    x[:, :, :1].add_(2)
    return (x - centre).square().mean(1, keepdim=True)


for _name, _spread in {
    "other_dimensions": lambda x: (x - x.mean((2, 3), keepdim=True)).pow(2).mean(1, keepdim=True),
    "another_source": lambda x: (x - x.relu().mean(1, keepdim=True)).pow(2).mean(1, keepdim=True),
    "another_power": lambda x: (x - x.mean(1, keepdim=True)).abs().pow(3).mean(1, keepdim=True),
    "scaled_difference": lambda x: torch.sub(x, x.mean(1, keepdim=True), alpha=2).pow(2).mean(1, keepdim=True),
    "turned_around": lambda x: (x.mean(1, keepdim=True) - x).pow(2).mean(1, keepdim=True),
    "product_of_two": lambda x: ((x - x.mean(1, keepdim=True)) * (x - x.amax(1, keepdim=True))).mean(1, keepdim=True),
    "changed_in_place": _changed_between,
    "source_changed_in_place": _source_changed_between,
}.items():
    family.add(
        f"no_variance_{_name}",
        lambda spread=_spread: _Spoiled(spread),
        image(),
        "What looks like a variance and is none must stay what it is.",
    )
