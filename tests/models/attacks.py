"""Nets that once gave a wrong answer: what looks like a known operation and is another one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PRUNABLE, Family, Sandwich, conv, image, tokens

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
