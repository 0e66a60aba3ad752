"""Nets whose dropped channels are constant but not zero: a bias takes up what they contribute, or they stay."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.models.case import PINNED, PRUNABLE, Family, conv, image, tokens

family = Family()


class Read(nn.Module):
    """``conv1 -> function -> the given layer``."""

    def __init__(self, function: Callable[[Tensor], Tensor], reader: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.function = function
        self.conv2 = reader

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.function(self.conv1(x)))


_READERS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "unpadded": (lambda: nn.Conv2d(8, 4, 3), True),
    "unpadded_strided_dilated": (lambda: nn.Conv2d(8, 4, 2, stride=2, dilation=2), True),
    "valid": (lambda: nn.Conv2d(8, 4, 3, padding="valid"), True),
    "pointwise": (lambda: nn.Conv2d(8, 4, 1), True),
    "reflecting": (lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"), True),
    "circular": (lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"), True),
    "padded": (lambda: nn.Conv2d(8, 4, 3, padding=1), False),
    "same": (lambda: nn.Conv2d(8, 4, 3, padding="same"), False),
    "padded_along_one_side": (lambda: nn.Conv2d(8, 4, 3, padding=(0, 1)), False),
    "without_bias": (lambda: nn.Conv2d(8, 4, 1, bias=False), False),
    "transposed": (lambda: nn.ConvTranspose2d(8, 4, 3), False),
}
for _name, (_reader, _taken) in _READERS.items():
    family.add(
        f"sigmoid_read_by_{_name}",
        lambda reader=_reader: Read(torch.sigmoid, reader()),
        image(),
        "sigmoid(0) = 0.5: a bias can take that up where every element of the result sees the same of it.",
        PRUNABLE if _taken else PINNED,
    )


def _changed_by_another_name(x: Tensor) -> Tensor:
    y = x
    y += 1
    return torch.sigmoid(x)


def _split_and_changed(x: Tensor) -> Tensor:
    x = x.clone()
    one, two = x[:, :4], x[:, 4:]
    one.add_(3.0)
    return torch.cat([two.sigmoid(), one], 1)


_CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": torch.cos,
    "shifted": lambda x: x + 3,
    "shifted_and_clamped": lambda x: (x - 2).clamp(min=-1.5),
    "shift_divided": lambda x: 1 / (x.square() + 2),
    "sum_of_two": lambda x: torch.sigmoid(x) + F.softplus(x),
    "product_of_two": lambda x: torch.sigmoid(x) * torch.exp(-x.abs()),
    "pooled": lambda x: F.adaptive_avg_pool2d(F.max_pool2d(torch.sigmoid(x), 3, 1, 1), 3),
    "upsampled": lambda x: F.interpolate(torch.sigmoid(x), scale_factor=2.0, mode="bilinear"),
    "moved": lambda x: torch.sigmoid(x).flip(1).transpose(2, 3).roll(1, 1)[:, :, 1:],
    "reshaped": lambda x: torch.sigmoid(x).flatten(2).transpose(1, 2).reshape(-1, 8, 1, 1),
    "averaged_in_space": lambda x: torch.sigmoid(x).mean((2, 3), keepdim=True),
    "largest_in_space": lambda x: torch.exp(-x.square()).amax((2, 3), keepdim=True) - 0.25,
    "in_place": lambda x: torch.cos(x).add_(1).mul_(2),
    "reflected": lambda x: F.pad(torch.sigmoid(x), (1, 1, 1, 1), mode="reflect"),
    "padded_with_itself": lambda x: F.pad(torch.sigmoid(x), (1, 1, 1, 1), value=0.5),
    "cut_to_whole_numbers": lambda x: (x + 2.5).long().to(x.dtype),
    "cut_to_truth_values": lambda x: (x.abs() + 3).bool().type_as(x) * torch.sigmoid(x),
    "changed_by_another_name": lambda x: _changed_by_another_name(x),
    "positive_angle": lambda x: torch.atan2(x, x * 0 + 2) + 1,
    "split_and_changed": lambda x: _split_and_changed(x),
}
for _name, _function in _CONSTANTS.items():
    family.add(
        f"constant_{_name}",
        lambda function=_function: Read(function, nn.Conv2d(8, 4, 1)),
        image(),
        "The value at rest is one number, known by running the functions on it.",
        PRUNABLE,
    )


def _row_written(x: Tensor, value: float) -> Tensor:
    x[:, :, 0] = value
    return x


def _large_ones_written(x: Tensor) -> Tensor:
    x[x > 0.4] = 0
    return x


def _pieces_read_after_a_change(x: Tensor) -> Tensor:
    x = x.clone()
    pieces = x.split(4, 1)
    x.add_(3.0)
    return torch.cat([pieces[0], pieces[1]], 1)


def _view_changed(x: Tensor) -> Tensor:
    view = x.flatten(2)
    view += 1
    return x


_CHANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "padded_with_zeros": lambda x: F.pad(torch.sigmoid(x), (1, 1, 1, 1)),
    "summed_over_pixels_of_any_number": lambda x: torch.sigmoid(x).sum((2, 3), keepdim=True),
    "average_that_counts_padding": lambda x: F.avg_pool2d(torch.sigmoid(x), 3, 1, 1),
    "norm_in_space": lambda x: torch.sigmoid(x) / torch.sigmoid(x).norm(dim=(2, 3), keepdim=True),
    "windows_padded_with_zeros": lambda x: F.unfold(torch.sigmoid(x), 3, padding=1).reshape(x.shape[0], 8, -1, 36),
    "overlapping_windows": lambda x: F.fold(F.unfold(torch.sigmoid(x), 3), (6, 6), 3),
    "direction_in_space": lambda x: F.normalize(torch.sigmoid(x), dim=(2, 3)),
    "times_image_size": lambda x: torch.sigmoid(x) * x.shape[2],
    "zero_at_one_image_size": lambda x: x - (x.shape[3] - 6),
    "padded_by_image_size": lambda x: F.pad(x, (1, 1), value=x.shape[2] - 6),
    "filled_by_image_size": lambda x: x + torch.full_like(x, x.shape[2] - 6) + x.new_full(x.shape, x.shape[2] - 6),
    "sign_of_zero": lambda x: torch.atan2(-x, x - 1),
    "sign_copied": lambda x: torch.copysign(x * 0 + 3, -x),
    "largest_channel": lambda x: (F.relu(x) == F.relu(x).amax(1, keepdim=True)).to(x.dtype),
    "depends_on_rounding": lambda x: torch.floor((x + 0.29) * 100),
    "always_dropped": lambda x: F.dropout(torch.sigmoid(x), 1.0, True),
    "row_written": lambda x: _row_written(torch.sigmoid(x), 0),
    "row_written_by_image_size": lambda x: _row_written(F.relu(x), x.shape[2] - 6),
    "large_ones_written": lambda x: _large_ones_written(torch.sigmoid(x)),
    "pieces_read_after_a_change": lambda x: _pieces_read_after_a_change(x),
    "view_changed": lambda x: _view_changed(x.clone()),
    "where_of_itself": lambda x: torch.where(torch.rand_like(x) > 2, torch.sigmoid(x), torch.cos(x)),
    "meets_an_image": lambda x: torch.sigmoid(x) + x[:, :1].detach().square().mean(1, keepdim=True),
}
for _name, _function in _CHANGED.items():
    family.add(
        f"no_constant_{_name}",
        lambda function=_function: Read(function, nn.Conv2d(8, 4, 1)),
        image(),
        "What is not the same number everywhere must not be taken for one.",
    )


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:0": (4, 4), "conv3.weight:0": (8, 8)})
class ConstantsInARow(nn.Module):
    """A bias that took up a constant makes channels that are constant themselves once they are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), nn.Conv2d(8, 4, 3)
        self.conv3, self.fc = nn.Conv2d(4, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.conv1(x))
        x = F.softplus(self.conv2(x))
        return self.fc(torch.cos(self.conv3(x)).mean((2, 3)))


@family.case(image())
class ConstantReadTwice(nn.Module):
    """Two layers read one constant, each with a bias of its own; a third pads with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 8)
        self.conv2, self.conv3 = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        self.conv4 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.sigmoid(self.conv1(x)), torch.cos(self.side(x))
        return self.conv2(a) * self.conv3(a) + self.conv2(b.roll(1, 1)) + self.conv4(b)


@family.case(image(), {"conv1.weight:0": 0})
class SharedReader(nn.Module):
    """One layer reads a constant and, elsewhere, something else: its one bias cannot serve both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.tanh(self.conv2(torch.sigmoid(self.conv1(x)))))


@family.case(image())
class TiedBias(nn.Module):
    """Two layers share their bias: what one takes up, the other would add as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv(3, 8), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        self.conv3.bias = self.conv2.bias

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.sigmoid(x)) + self.conv3(torch.tanh(x))


@family.case(image(), {"conv1.weight:0": (8, 8), "side.weight:0": (4, 4)})
class ConstantsJoined(nn.Module):
    """Zeros, constants and other constants side by side before one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 4)
        self.conv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv1(x), self.side(x)
        return self.conv2(torch.cat([torch.relu(a), b.cos(), b.sigmoid()], 1))


@family.case(image())
class ConstantFlattened(nn.Module):
    """Channels and pixels flattened together: every pixel of a channel contributes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(self.conv1(x)).flatten(1))


@family.case(tokens(), {"fc1.weight:0": (8, 8)})
class ConstantTokens(nn.Module):
    """A linear layer on tokens, a norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.softplus(self.norm(self.fc1(x))))


@family.case(image())
class ConstantThroughDepthwise(nn.Module):
    """A depthwise convolution makes zero again of a constant: its own weight and bias go too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.depthwise = conv(8, 8, groups=8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.depthwise(torch.sigmoid(self.conv1(x))))


@family.case(image())
class LargeConstantMeetsAnything(nn.Module):
    """max(7, y) is 7 for every y that is tried, and not for all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side, self.conv2 = conv(3, 8), conv(3, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        constant = self.conv1(x) * 0 + 7
        return self.conv2(torch.maximum(constant, 1000 * self.side(x) + torch.linspace(-9, 9, 8).view(-1, 1, 1)))


class _Doubled(nn.Module):
    """A parametrisation."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@family.case(image())
class ComputedBias(Read):
    """The reader's bias is computed from another parameter: there is nothing that could take a constant up."""

    def __init__(self) -> None:
        super().__init__(torch.sigmoid, nn.Conv2d(8, 4, 1))
        parametrize.register_parametrization(self.conv2, "bias", _Doubled())
