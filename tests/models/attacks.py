"""Nets that once gave a wrong answer: what looks like a known operation and is another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PINNED, PRUNABLE, Family, Sandwich, conv, image, tokens

family = Family()


@family.case(image(), {"conv1.weight:0": (8, 4), "conv2.weight:1": 0})
class GroupedSigmoidWeight(Sandwich):
    """A grouped convolution whose weight is computed and not zero where its parameter is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 4, 1, 1))

    def trap(self, x: Tensor) -> Tensor:
        return F.conv2d(x, torch.sigmoid(self.weight), groups=2)


class MaskOfOtherBranch(nn.Module):
    """Written to where another tensor is positive: the two go together."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = conv(3, 8), conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.one(x)).clone()
        y[self.two(x) > 0] = 0
        return self.out(y)


family.case(image(), {"one.weight:0": (8, 8), "two.weight:0": (8, 8), "out.weight:1": (8, 8)})(MaskOfOtherBranch)


@family.case(image())
class IndexChangedThroughView(Sandwich):
    """An index is changed in place through a view of it before it is used."""

    def trap(self, x: Tensor) -> Tensor:
        index = torch.arange(8)
        index[:4].add_(4)
        return x[:, index]


class _Centred(nn.Conv2d):
    """A convolution that changes its weight one call below ``forward``."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean((1, 2, 3), keepdim=True), bias) + 1


@family.case(image())
class ConvForwardOverridden(Sandwich):
    """A convolution by name whose ``forward`` is torch's own, but not what that calls."""

    def __init__(self) -> None:
        super().__init__()
        self.centred = _Centred(8, 8, 1)

    def trap(self, x: Tensor) -> Tensor:
        return self.centred(x)


@family.case(image())
class ForwardOfTheInstance(Sandwich):
    """One module's ``forward`` was replaced by a function."""

    def __init__(self) -> None:
        super().__init__()
        original = self.conv1.forward
        self.conv1.forward = lambda x: original(x) + 1.0  # type: ignore[method-assign]

    def trap(self, x: Tensor) -> Tensor:
        return x

    def __deepcopy__(self, memo: dict[int, object]) -> ForwardOfTheInstance:
        copy = ForwardOfTheInstance().train(self.training)
        copy.to(self.conv2.weight.dtype).load_state_dict(self.state_dict())
        return copy


@family.case(image(), {"conv1.weight:0": 0})
class IndexOfTwoDimensions(Sandwich):
    """Channels are picked into a grid: pinned."""

    def trap(self, x: Tensor) -> Tensor:
        return x[:, torch.arange(8).reshape(4, 2)].flatten(1, 2)


@family.case(tokens(), {"left.weight:0": (8, 8), "right.weight:0": (8, 8)})
class FactorsByName(nn.Module):
    """Products called with all arguments by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.matmul(input=self.left(x), other=self.right(x).mT)
        return y + torch.bmm(input=self.left(x), mat2=self.right(x).mT)


@family.case(image(), PRUNABLE)
class OwnMask(Sandwich):
    """Written to where the tensor itself is large."""

    def trap(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[x > 0.5] = 0
        return x


@family.case(image(), {"conv.weight:0": (8, 8), "one.weight:1": (4, 4), "two.weight:1": (4, 4)})
class HalfChangedInPlace(nn.Module):
    """Two views of one size on one memory: what changes the one is not seen through the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = conv(3, 8), conv(4, 3), conv(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).clone()
        one, two = x[:, :4], x[:, 4:]
        one.mul_(2)
        return self.one(one) + self.two(two)


class CopyChanged(nn.Module):
    """What moves channels is a copy: changing it in place, or what it was made of, leaves the other as it is."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, source: bool) -> None:
        super().__init__()
        self.change = nn.Hardsigmoid(inplace=True)
        self.function, self.source = function, source
        self.conv, self.one, self.two = conv(3, 8), conv(8, 4), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        moved = self.function(x)
        if self.source:
            x.mul_(-0.5)
        else:
            self.change(moved)
        return self.one(x) + self.two(moved)


_COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "roll": lambda x: x.roll(8, 1),
    "index_select": lambda x: x.index_select(1, torch.arange(8)),
    "shuffle": lambda x: torch.channel_shuffle(x, 2),
}
for _name, _function in _COPIES.items():
    for _source in (False, True):
        family.add(
            f"{_name}_and_{'source' if _source else 'copy'}_changed",
            lambda function=_function, source=_source: CopyChanged(function, source=source),
            image(),
            CopyChanged.__doc__ or "",
        )


@family.case(tokens(), {"qkv.weight:0": (24, 2)})
class KeyBiasZeroed(nn.Module):
    """A third of a bias is set to zero through a view before it is used, as Swin V2 does with the keys'."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(6, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.qkv.bias.clone()
        length = bias.numel() // 3
        bias[length : 2 * length].zero_()
        qkv = F.linear(x, self.qkv.weight, bias).reshape(x.shape[0], x.shape[1], 3, 2, 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return self.proj((y.softmax(-1) @ v).transpose(1, 2).flatten(2))


_PARTLY: dict[str, Callable[[Tensor], Any]] = {
    "zeroed": lambda y: y[:, 2:5].zero_(),
    "rows_zeroed": lambda y: y[:, :, :2].zero_(),
    "filled_with_zero": lambda y: y[:, 2:].fill_(0),
    "filled_with_zero_in_steps": lambda y: y[:, ::2].fill_(0),
    "filled": lambda y: y[:, ::2].fill_(3),
    "scaled": lambda y: y[:, 1:6].mul_(-2),
    "scaled_by_another": lambda y: y[:, :4].mul_(y[:, 4:].clone()),
    "added_to": lambda y: y[:, :4].add_(1),
    "cosine": lambda y: y[:, :, 1:].cos_(),
}
for _name, _change in _PARTLY.items():

    class ChangedInPart(Sandwich):
        """A part of a tensor is changed through a view."""

        def __init__(self, change: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.change = change

        def trap(self, x: Tensor) -> Tensor:
            x = x * 0.5
            self.change(x)
            return x * 2

    family.add(
        f"partly_{_name}",
        lambda change=_change, net=ChangedInPart: net(change),
        image(),
        "What a view is changed to is what the whole tensor holds there.",
        {"filled_with_zero_in_steps": PINNED}.get(
            _name, PRUNABLE if _name in ("zeroed", "rows_zeroed", "filled_with_zero", "scaled") else None
        ),
    )
