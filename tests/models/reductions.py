"""Nets whose difficulty is something that mixes channels, or runs along another dimension than it seems."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PINNED, PRUNABLE, Expected, Family, Sandwich, conv, image, tokens
from tests.models.pointwise import Pointwise

family = Family()


class Squeezed(nn.Module):
    """``conv1 -> reduction to one channel -> conv2``."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.conv2 = conv(1, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.function(self.conv1(x)))


ALONE: dict[str, Expected] = {"conv1.weight:0": (8, 8)}
FIXED: dict[str, Expected] = {"conv1.weight:0": 0}


def _implicit_softmax(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return F.softmax(x)


def _over_channels() -> dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Expected], str]]:
    return {
        "sum": (lambda x: x.sum(1, keepdim=True), ALONE, "a sum over channels is exact: a zero adds nothing"),
        "mean": (lambda x: x.mean(1, keepdim=True), {}, "the mean keeps the old count as divisor, or is pinned"),
        "sum_over_width": (lambda x: x.sum(1, keepdim=True) / x.shape[1], ALONE, "the divisor must stay the old width"),
        "norm": (lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True), {}, "a norm over channels"),
        "old_norm": (lambda x: x.norm(p=2, dim=1, keepdim=True), {}, "a norm over channels, as a method"),
        "maximum": (lambda x: torch.max(x, dim=1, keepdim=True)[0], ALONE, "a zero may be the maximum"),
        "amax": (lambda x: x.amax(1, keepdim=True), ALONE, "the zeros of dropped channels may be the maximum"),
        "amin": (lambda x: torch.amin(x, 1, True), ALONE, "the zeros of dropped channels may be the minimum"),
        "amax_below_zero": (lambda x: (-x.abs()).amax(1, True), ALONE, "one dropped channel is the maximum"),
        "amax_of_all": (lambda x: x.amax() * x.sum(1, keepdim=True), ALONE, "a maximum over everything"),
        "amax_twice": (lambda x: x.amax([-1, -3], True) + x.amin((1, 2), True), ALONE, "over channels and pixels"),
        "amax_of_pixels": (lambda x: x.amax((2, 3), True).sum(1, True), ALONE, "channels stay beside the maximum"),
        "minimum": (lambda x: x.min(1, True).values, ALONE, "a zero may be the minimum"),
        "maximum_by_axis": (lambda x: torch.max(-x.abs(), axis=1, keepdims=True)[0], ALONE, "under NumPy's names"),
        "place_of_maximum": (lambda x: sum(torch.max(x, 1, True)), FIXED, "the place of the largest moves: pinned"),
        "larger_of_two": (lambda x: torch.max(x, x.roll(1, 2)).sum(1, True), ALONE, "a maximum of two tensors"),
        "product": (lambda x: x.prod(1, keepdim=True), FIXED, "a zero makes the product zero: pinned"),
        "logsumexp": (lambda x: x.logsumexp(1, keepdim=True), FIXED, "exp(0) counts: pinned"),
        "variance": (lambda x: x.var(1, keepdim=True), {}, "the variance needs the old count, or is pinned"),
        "argmax": (lambda x: x.argmax(1, keepdim=True).double(), FIXED, "the place of the largest moves: pinned"),
        "median": (lambda x: x.median(1, keepdim=True)[0], FIXED, "a zero may be the median: pinned"),
        "cbam": (
            lambda x: x.mean(1, keepdim=True) * torch.max(x, 1, keepdim=True)[0],
            ALONE,
            "mean and maximum over channels, as in CBAM",
        ),
        "least_norm": (
            lambda x: x.norm(float("-inf"), 1, True),
            FIXED,
            "this norm is a minimum",
        ),
        "mean_by_axis": (lambda x: x.mean(axis=1, keepdims=True), {}, "the mean under NumPy's names"),
        "mean_by_keyword": (lambda x: torch.mean(input=x, dim=1, keepdim=True), {}, "the mean by keywords alone"),
        "mean_of_all": (lambda x: x.mean() * x.sum(1, keepdim=True), {}, "a mean over everything"),
        "mean_from_the_end": (
            lambda x: x.mean([-1, -3], keepdim=True),
            {},
            "channels and columns from the end",
        ),
        "nan_sum": (lambda x: x.nansum(1, keepdim=True), {}, "a sum that skips what is no number"),
        "norm_by_two_names": (lambda x: torch.norm(x, dim=1, p=1, keepdim=True), {}, "keywords in another order"),
        "sum_by_einsum": (lambda x: torch.einsum("bchw->bhw", x).unsqueeze(1), {}, "a sum spelled as einsum"),
        "count": (lambda x: (x > 0).sum(1, keepdim=True).double(), {}, "how many channels are positive"),
        "share": (lambda x: (x > 0).double().mean(1, keepdim=True), {}, "which share of the old channels is positive"),
        "any": (lambda x: (x > 0).any(1, keepdim=True).double(), {}, "whether any channel is positive"),
        "all": (lambda x: (x > -9).all(1, keepdim=True).double() * x.sum(1, True), {}, "whether all channels are so"),
        "cosine": (lambda x: F.cosine_similarity(x, x.roll(1, 2), dim=1).unsqueeze(1), {}, "a cosine over channels"),
    }


def _along_channels() -> dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Expected], str]]:
    pinned, prunable = dict(PINNED), dict(PRUNABLE)
    return {
        "centred": (lambda x: x - x.mean(1, keepdim=True), pinned, "minus the mean over channels, a zero is not zero"),
        "softmax": (lambda x: x.softmax(1), pinned, "softmax over channels gives each zero a share: pinned"),
        "log_softmax": (lambda x: F.log_softmax(x, dim=1), pinned, "log-softmax over channels: pinned"),
        "softmax_module": (nn.Softmax(dim=-3), pinned, "softmax over channels as a module: pinned"),
        "softmax2d": (nn.Softmax2d(), pinned, "softmax over channels without naming them: pinned"),
        "softmax_gate": (lambda x: x * x.softmax(1), pinned, "the gate's other entries depend on the dropped channel"),
        "cumsum": (lambda x: x.cumsum(1), pinned, "a running sum carries on over a zero: pinned"),
        "flipped_cumsum": (lambda x: x.flip(1).cumsum(1).flip(1), pinned, "a running sum backwards: pinned"),
        "normalize": (lambda x: F.normalize(x, dim=1), {}, "zeros add nothing to the norm over channels"),
        "divided_by_sum": (
            lambda x: x / (x.abs().sum(1, keepdim=True) + 1),
            prunable,
            "divided by a sum over channels, zeros stay zero and add nothing",
        ),
        "sort": (lambda x: x.sort(1, True).values, pinned, "sorted channels"),
        "cummax": (lambda x: torch.cummax(x, 1)[0], pinned, "a running maximum over channels: pinned"),
        "cumprod": (lambda x: torch.cumprod(x, dim=1), pinned, "a running product stops at a zero: pinned"),
        "softmin": (nn.Softmin(dim=1), pinned, "softmin over channels: pinned"),
        "implicit_softmax": (_implicit_softmax, pinned, "softmax without a dimension means channels here: pinned"),
        "local_response_norm": (nn.LocalResponseNorm(3), pinned, "a window over neighbouring channels: pinned"),
        "softmax_in_space": (
            lambda x: x.flatten(2).softmax(-1).view_as(x),
            pinned,
            "softmax over pixels of a zero channel is uniform, not zero: pinned",
        ),
        "softmax_in_space_times_value": (
            lambda x: x * x.flatten(2).softmax(2).view(x.shape),
            prunable,
            "a spatial softmax multiplies a zero: prunable",
        ),
        "cumsum_in_space": (lambda x: x.cumsum(2) + x.cumsum(-1), prunable, "a running sum along rows: prunable"),
        "deviation_in_space": (lambda x: x - x.mean((-2, -1), True), prunable, "minus the mean over pixels: prunable"),
        "average_over_channels": (
            lambda x: F.avg_pool1d(x.flatten(2).transpose(1, 2), 3, 1, 1).transpose(1, 2).reshape(x.shape),
            pinned,
            "the pool's window runs over channels: pinned",
        ),
        "volume_pool": (
            lambda x: F.max_pool3d(x, (3, 1, 1), 1, (1, 0, 0)),
            pinned,
            "without a batch dimension of its own, channels are the depth of a volume: pinned",
        ),
        "resized_over_channels": (
            lambda x: F.interpolate(x.flatten(2).transpose(1, 2), size=8, mode="linear").transpose(1, 2).view_as(x),
            pinned,
            "interpolation runs over channels: pinned",
        ),
        "flattened_mean": (
            lambda x: x * x.flatten(1).mean(1).view(-1, 1, 1, 1),
            {},
            "a mean over channels and pixels at once",
        ),
    }


for _name, (_function, _expect, _trap) in _over_channels().items():
    family.add(f"over_channels_{_name}", lambda function=_function: Squeezed(function), image(), _trap, _expect)
for _name, (_function, _expect, _trap) in _along_channels().items():
    family.add(f"along_channels_{_name}", lambda function=_function: Pointwise(function), image(), _trap, _expect)


@family.case(image(), {"gate.weight:2": 0})
class EfficientChannelAttention(nn.Module):
    """ECA: a convolution of width 3 slides over the channels as if they were pixels: neighbours matter, so pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.gate(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
        return self.conv2(x * torch.sigmoid(y.transpose(-1, -2).unsqueeze(-1)))


@family.case(image(), {"conv1.weight:0": 0})
class ConvolutionOverChannels(nn.Module):
    """A 3d convolution takes the channels as depth: pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.deep = nn.Conv3d(1, 2, 3, padding=1)
        self.conv2 = conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.deep(self.conv1(x).unsqueeze(1)).flatten(1, 2))


@family.case(tokens(), {"b.weight:0": 0})
class SoftmaxOverOneOfTwo(nn.Module):
    """An outer product has two labelled dimensions; softmax over one pins that one, and is not zero for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.a(x)[..., :, None] * self.b(x)[..., None, :]
        return self.fc(both.softmax(-1).sum(-2))


@family.case(image())
class SoftmaxWithinHeads(nn.Module):
    """Softmax over the inner of two dimensions of one width, times a value of the same head: whole heads can go."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.value = conv(3, 8, 1), conv(3, 8, 1)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        key = self.key(x).view(b, 2, 4, h, w).softmax(2)
        return self.conv2((key * self.value(x).view(b, 2, 4, h, w)).view(b, 8, h, w))


@family.case(image())
class GramMatrix(nn.Module):
    """Every entry of a Gram matrix belongs to two channels at once: no entry has one owner."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 6)
        self.fc = nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2)
        return self.fc(torch.bmm(x, x.transpose(1, 2)).flatten(1))


@family.case(image())
class GramReduced(nn.Module):
    """A Gram matrix summed over one side has one owner again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x)).flatten(2)
        return self.fc((x @ x.mT).tanh().sum(1))


@family.case(tokens())
class OuterSum(nn.Module):
    """An outer sum is zero only where both owners are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 5)
        self.fc = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.a(x).unsqueeze(-1) + self.b(x).unsqueeze(-2)
        return self.fc(F.relu(both).flatten(-2))


@family.case(tokens())
class OuterProduct(nn.Module):
    """An outer product flattened: each column of the linear layer belongs to two owners."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 5)
        self.fc = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.einsum("bti,btj->btij", self.a(x), self.b(x)).reshape(-1, 5, 20))


@family.case(image(), PINNED | {"mix.weight:0": 0, "mix.bias:0": 0})
class LinearOverWidth(Sandwich):
    """A linear layer along image rows adds its bias to every channel, dropped or not: pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def trap(self, x: Tensor) -> Tensor:
        return self.mix(x)


@family.case(image(), PRUNABLE | {"mix.weight:0": 0})
class LinearOverWidthWithoutBias(Sandwich):
    """The same without bias: a zero channel stays zero."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6, bias=False)

    def trap(self, x: Tensor) -> Tensor:
        return self.mix(x)


@family.case(tokens(), {"hidden.weight:0": (7, 7)})
class TokenMixing(nn.Module):
    """A Mixer block mixes tokens by a linear layer on the transposed tensor; its hidden units are prunable."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.hidden, self.back = nn.Linear(5, 7), nn.Linear(7, 5)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.back(F.relu(self.hidden(x.transpose(1, 2)))).transpose(1, 2)
        return self.fc(x + y)


@family.case(tokens(8, 5), {"stem.weight:0": 0})
class BatchNormOverTokens(nn.Module):
    """Batch norm takes the tokens for channels and averages over the hidden width: pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(5)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.stem(x)))


@family.case(image())
class Maxout(Sandwich):
    """The larger of each pair: a pair goes together, or stays."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        return x.view(b, 4, 2, h, w).max(2)[0]


@family.case(image())
class GroupedMean(Sandwich):
    """Means of four channels each: the divisor is no width of the whole."""

    seen = 2

    def trap(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (2, 4)).mean(2)


class TokenTrap(nn.Module):
    """``fc1 -> function -> fc2`` on tokens."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.function(self.fc1(x)))


TOKENS_PINNED: dict[str, Expected] = {"fc1.weight:0": 0, "fc2.weight:1": 0}
TOKENS_PRUNABLE: dict[str, Expected] = {"fc1.weight:0": (8, 8), "fc2.weight:1": (8, 8)}
for _name, (_function, _expect, _trap) in {
    "sort": (lambda x: x.sort()[0], TOKENS_PINNED, "sort without a dimension sorts the last one: pinned"),
    "argsort": (lambda x: x.argsort().double(), TOKENS_PINNED, "argsort without a dimension: pinned"),
    "sort_tokens": (lambda x: x.sort(1, descending=True)[0], TOKENS_PRUNABLE, "each channel is sorted on its own"),
    "implicit_softmax": (_implicit_softmax, {}, "softmax of a 3d tensor without a dimension runs over the batch"),
    "log_sigmoid": (F.logsigmoid, TOKENS_PRUNABLE, "log(sigmoid(0)) = -log 2, which the bias of fc2 takes up"),
    "layer_norm": (lambda x: F.layer_norm(x, (8,)), {}, "a functional layer norm with a literal shape"),
    "layer_norm_tokens": (lambda x: F.layer_norm(x, (5, 8)), {}, "a functional layer norm over tokens and channels"),
    "rms_norm": (lambda x: F.rms_norm(x, [8]), {}, "a functional RMS norm with a literal shape"),
    "fft": (lambda x: torch.fft.fft(x, dim=1).real, {}, "a Fourier transform along tokens"),
    "fft_channels": (lambda x: torch.fft.fft(x).abs(), TOKENS_PINNED, "a Fourier transform along channels: pinned"),
    "difference": (lambda x: F.pad(x.diff(dim=-1), (0, 1)), TOKENS_PINNED, "differences of neighbours: pinned"),
    "lower_triangle": (lambda x: x @ torch.ones(8, 8, dtype=x.dtype).tril(), {}, "a running sum as a matrix product"),
    "identity_matrix": (lambda x: x @ torch.eye(8, dtype=x.dtype), {}, "a product with the identity"),
    "pairwise": (lambda x: x * torch.cdist(x, x).sum(-1, keepdim=True), {}, "distances between tokens"),
    "mean_of_outer": (
        lambda x: (x.unsqueeze(-1) * x.unsqueeze(-2)).mean(axis=2),
        {},
        "the mean over one side of an outer product keeps the other",
    ),
}.items():
    family.add(f"tokens_{_name}", lambda function=_function: TokenTrap(function), tokens(), _trap, _expect)


@family.case(tokens(), {"fc1.weight:0": (8, 8)})
class FixedMixing(nn.Module):
    """A fixed matrix in a buffer mixes the channels: its rows are cut, its columns are new channels nobody learns."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.register_buffer("matrix", torch.cos(torch.outer(torch.arange(8.0), torch.arange(7.0))))
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) @ self.matrix)


@family.case(image(), {"conv1.weight:0": 0})
class WeightInOutput(nn.Module):
    """A penalty on a weight is part of the output: the weight must stay whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv2(self.conv1(x)), (self.conv1.weight + 1).square().mean()
