"""Nets that depend on what is a view and what is a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PINNED, PRUNABLE, Family, Sandwich, image

family = Family()


class Written(Sandwich):
    """Doubled features, which a function changes; a multiplication needs no result for its gradient."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def trap(self, x: Tensor) -> Tensor:
        return self.change(2 * F.relu(x))


def _through_a_step(y: Tensor) -> Tensor:
    y[:, ::2].mul_(2)
    return y


def _through_a_name(y: Tensor) -> Tensor:
    z = y[:, 1::3]
    z.neg_()
    return y


def _through_a_transposed_step(y: Tensor) -> Tensor:
    y.transpose(0, 1)[::2].mul_(3)
    return y


def _below_a_step(y: Tensor) -> Tensor:
    z = y[:, ::2]
    y.mul_(2)
    return torch.cat([z, y[:, 1::2]], 1)


def _twice_the_same_step(y: Tensor) -> Tensor:
    one, two = y[:, ::2], y[:, ::2]
    one.mul_(2)
    return torch.cat([one, two], 1)


def _step_assigned(y: Tensor) -> Tensor:
    y[:, ::2] *= 2
    return y


def _inside_a_step(y: Tensor) -> Tensor:
    z = y[:, ::2]
    z[:, :2].mul_(2)
    return torch.cat([z, z], 1)


def _in_a_part(y: Tensor) -> Tensor:
    y[:, :4].mul_(2)
    return y


def _in_rows_alone(y: Tensor) -> Tensor:
    n, _, h, w = y.shape
    z = y.permute(0, 2, 3, 1).reshape(n, h * w, -1)
    z.mul_(3)
    return z.mT.unflatten(2, (h, w))


def _before_rows(y: Tensor) -> Tensor:
    y.mul_(3)
    return y + y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _in_own_type(y: Tensor) -> Tensor:
    return y.double().mul_(3) + y


def _in_flat_pool(y: Tensor) -> Tensor:
    pooled = F.adaptive_avg_pool2d(y, 1)
    pooled.flatten(1).mul_(3)
    return y * pooled


def _in_a_dropout(y: Tensor) -> Tensor:
    return F.dropout(y, training=False).mul_(3) + y


for _name, _change, _expect, _trap in (
    ("written_through_a_step", _through_a_step, PINNED, "every second channel, of those that are left no slice"),
    ("written_through_a_name", _through_a_name, PINNED, "every third channel, by a name of its own"),
    ("written_through_a_transposed_step", _through_a_transposed_step, PINNED, "a slice with steps of a view"),
    ("written_below_a_step", _below_a_step, PINNED, "a slice with steps sees what the whole is changed to"),
    ("written_beside_the_same_step", _twice_the_same_step, {"conv1.weight:0": 0}, "two slices with the same steps"),
    ("step_assigned", _step_assigned, PRUNABLE, "every second channel, and the result is put back"),
    ("written_inside_a_step", _inside_a_step, {}, "all that reads it is inside of the same slice"),
    ("written_in_a_part", _in_a_part, PRUNABLE, "half of the channels is a slice whatever is left"),
    ("written_in_rows_alone", _in_rows_alone, PRUNABLE, "nobody reads what may have been copied"),
    ("written_before_rows", _before_rows, PRUNABLE, "the change comes before what may copy"),
    ("written_in_own_type", _in_own_type, PINNED, "a copy in any other type"),
    ("written_in_flat_pool", _in_flat_pool, PRUNABLE, "of one pixel no layout makes a copy"),
    ("written_in_a_dropout", _in_a_dropout, PINNED, "a copy in training only"),
):
    family.add(_name, lambda change=_change: Written(change), image(), _trap, _expect)  # type: ignore[misc]


class OfOther(nn.Module):
    """The shape of another tensor, whose channels go by themselves."""

    def __init__(self, shaped: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.mixed = nn.Parameter(torch.randn(8, 8))
        self.shaped = shaped

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x))
        return self.out(F.relu(self.shaped(self.mixed @ y.flatten(2), y)))


for _name, _shaped in (
    ("view_as_other", lambda z, y: z.view_as(y)),
    ("reshape_as_other", lambda z, y: z.transpose(1, 2).contiguous().transpose(1, 2).reshape_as(y)),
    ("expand_as_other", lambda z, y: z.mean(2)[..., None, None].expand_as(y)),
):
    family.add(
        _name,
        lambda shaped=_shaped: OfOther(shaped),  # type: ignore[misc]
        image(),
        OfOther.__doc__ or "",
        {"conv1.weight:0": (8, 8), "mixed:0": (8, 8), "mixed:1": (8, 8)},
    )


@family.case(image(), PRUNABLE)
class SqueezedWidth(Sandwich):
    """Nothing to squeeze, until one channel is left."""

    def trap(self, x: Tensor) -> Tensor:
        y = F.relu(x)
        return y * y.mean((2, 3)).squeeze(-1).squeeze(dim=1)[..., None, None]


class Constant(Sandwich):
    """Multiplied by a tensor that is neither parameter nor buffer: it is only cut."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.randn(8, 1, 1, dtype=torch.float64)

    def trap(self, x: Tensor) -> Tensor:
        return x * self.table


class AddedConstant(Constant):
    """Added to it: nothing in the model's state could set that to zero."""

    def trap(self, x: Tensor) -> Tensor:
        return x + self.table


family.case(image(), PRUNABLE)(Constant)
family.case(image(), PINNED)(AddedConstant)


class IntegerConstant(Sandwich):
    """Multiplied by integers that are neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.arange(8).view(8, 1, 1)

    def trap(self, x: Tensor) -> Tensor:
        return x * self.table


class AddedIntegers(IntegerConstant):
    """Added to them."""

    def trap(self, x: Tensor) -> Tensor:
        return x + self.table.to(x)


class FilledByConstant(IntegerConstant):
    """Filled with ones where a fixed mask says so."""

    def trap(self, x: Tensor) -> Tensor:
        return x.masked_fill(self.table > 3, 1.0)


class ClearedByConstant(IntegerConstant):
    """Filled with zeros where a fixed mask says so."""

    def trap(self, x: Tensor) -> Tensor:
        return x.masked_fill(self.table > 3, 0.0)


class OwnCopy(Sandwich):
    """A copy by `to`, which is changed in place."""

    def trap(self, x: Tensor) -> Tensor:
        y = x.to(x.dtype, copy=True)
        y *= 2
        return x + y


family.case(image(), PRUNABLE)(IntegerConstant)
family.case(image(), PINNED)(AddedIntegers)
family.case(image(), PINNED)(FilledByConstant)
family.case(image(), PRUNABLE)(ClearedByConstant)
family.case(image(), PRUNABLE)(OwnCopy)
