"""Later images of another size: what is made of a model computes the same as the model there, or refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import InputSizeError
from tests.models.case import conv


class Lines(nn.Module):
    """The rows of all channels in one line, and something done along it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = conv(3, 8), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(x).flatten(1, 2)).mean(2))


def rows_first(y: Tensor) -> Tensor:
    """The same line, row by row instead of channel by channel."""
    return y.unflatten(1, (8, -1)).transpose(1, 2).flatten(1, 2)


def with_means(y: Tensor) -> Tensor:
    """The line and the mean of every channel behind it."""
    return torch.cat([y, y.unflatten(1, (8, -1)).mean(2)], 1)


def total(y: Tensor) -> Tensor:
    return y.sum(1, keepdim=True)


def ramp(y: Tensor) -> Tensor:
    return torch.arange(y.shape[1])[:, None] / 10


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda y: y.mean(1, keepdim=True),
    "deviation": lambda y: y.std(1, keepdim=True),
    "length": lambda y: total(y / y.shape[1]),
    "length_by_size": lambda y: total(y / y.size(1)),
    "power_of_length": lambda y: total(y * y.shape[1] ** -0.5),
    "number_of_elements": lambda y: total(y / (y.numel() // y.size(0))),
    "number_of_elements_of_one": lambda y: total(y / y[0].numel()),
    "channels_as_a_dimension": lambda y: total(
        (y.view(y.shape[0], 8, -1, y.shape[2]) * torch.arange(8)[:, None, None]).sum(2)
    ),
}
MAY_REFUSE: dict[str, Callable[[Tensor], Tensor]] = {
    "slice_of_rows": lambda y: total(rows_first(y)[:, 8:]),
    "rolled_rows": lambda y: total(rows_first(y).roll(8, 1) * ramp(y)),
    "ramp": lambda y: total(y * ramp(y)),
    "attention": lambda y: F.scaled_dot_product_attention(*[y.transpose(1, 2)] * 3).mean((1, 2)).view(-1, 1, 1),
    "padded_mean": lambda y: F.pad(y, (0, 0, 0, 3)).mean(1, keepdim=True),
    "joined_mean": lambda y: with_means(y).mean(1, keepdim=True),
    "joined_length": lambda y: total(with_means(y) / with_means(y).shape[1]),
    "joined_number_of_elements": lambda y: total(with_means(y) / with_means(y)[0].numel()),
    "repeated": lambda y: y.repeat(1, 2, 1).mean(1, keepdim=True),
}


@pytest.mark.parametrize("size", [4, 8, 12])
@pytest.mark.parametrize("name", [*EXACT, *MAY_REFUSE])
def test_lines_of_another_length(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = Lines((EXACT | MAY_REFUSE)[name]).double().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    assert [group.size for group in program.prunable] == [8]
    mask = program.random_mask(keep=0.5, seed=0)
    gated = program.gated()
    gated.set_mask(mask)
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    expected = program.zeroed(mask)(x)
    for module in (program.compact(mask), gated):
        try:
            found = module(x)
        except InputSizeError:
            assert name in MAY_REFUSE
        else:
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_compact_model_of_one_size_is_compacted_again() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    compact = atofx.trace(Lines(MAY_REFUSE["padded_mean"]).double().eval(), x)
    once = compact.compact(compact.random_mask(keep=0.75, seed=0))
    program = atofx.trace(once, x)
    mask = program.random_mask(keep=0.5, seed=1)
    assert program.verify(mask).ok
    with pytest.raises(InputSizeError, match=r"holds for a tensor of shape \(any, "):
        program.compact(mask)(torch.randn(2, 3, 8, 8, dtype=torch.float64))


class Maps(nn.Module):
    """Feature maps, a table of positions, and something done with them."""

    def __init__(self, function: Callable[[Maps, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = conv(3, 8), nn.Linear(1, 4)
        self.table = nn.Parameter(torch.randn(400, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self, self.conv(x)).flatten(1).sum(1, keepdim=True))


def times_table(m: Maps, line: Tensor) -> Tensor:
    return line * m.table[: line.shape[1]]


def windows(y: Tensor) -> Tensor:
    return y.view(y.shape[0], 8, y.shape[2] // 2, 2, -1).permute(0, 2, 1, 3, 4).flatten(2, 3)


def by_group(y: Tensor) -> Tensor:
    groups = y.view(y.shape[0], 4, -1)
    return (groups - groups.mean(2, keepdim=True)).view(y.shape)


def by_head(y: Tensor) -> Tensor:
    heads = y.view(y.shape[0], 2, 4, -1).reshape(y.shape[0] * 2, 4, -1)
    return torch.bmm(heads, heads.transpose(1, 2)).view(y.shape[0], -1)


#: Taken at every size of images and batches.
EVERY: dict[str, Callable[[Maps, Tensor], Tensor]] = {
    "channels_as_rows": lambda m, y: y.flatten(1).view(y.shape[0], 8, -1).mean(2) * torch.arange(8),
    "groups_as_rows": lambda m, y: y.flatten(1).view(y.shape[0], 4, -1).mean(2) * torch.arange(4),
    "there_and_back": lambda m, y: y.flatten(1).view(y.shape) * torch.arange(8)[:, None, None],
    "positions_apart": lambda m, y: (y.flatten(2).transpose(1, 2) * m.table[:8, 0]).mean(1),
    "half_of_two": lambda m, y: torch.cat([y, y], 1)[:, : y.shape[1] // 2].tanh(),
    "norm_by_group": lambda m, y: by_group(y),
    "heads_in_the_batch": lambda m, y: by_head(y),
}
#: Places that are those of one size: exact, or refused.
SOME: dict[str, Callable[[Maps, Tensor], Tensor]] = {
    "table": lambda m, y: times_table(m, y.flatten(1, 2)),
    "table_of_all": lambda m, y: y.flatten(1) * m.table[: y[0].numel(), 0],
    "table_from_the_end": lambda m, y: y.flatten(1, 2) * m.table[-y.flatten(1, 2).shape[1] :],
    "table_rows_first": lambda m, y: times_table(m, y.permute(0, 2, 1, 3).flatten(1, 2)),
    "ramp_cut": lambda m, y: y.flatten(1) * torch.arange(288)[: y.flatten(1).shape[1]],
    "rows_first": lambda m, y: y.transpose(1, 2).flatten(1),
    "rows_first_ramp": lambda m, y: y.transpose(1, 2).flatten(1) * torch.arange(y[0].numel()),
    "rows_first_cut": lambda m, y: y.transpose(1, 2).flatten(1, 2)[:, 8:],
    "windows": lambda m, y: windows(y) * windows(y).shape[2],
    "batch_named": lambda m, y: y.view(2, -1),
    "batch_and_channels_named": lambda m, y: y.view(2, 8, -1).mean((1, 2))[:, None],
    "everything_in_one": lambda m, y: y.flatten().mean()[None, None],
    "everything_ramp": lambda m, y: (y.flatten() * torch.arange(y.numel())).sum()[None, None],
    "samples_and_channels_cut": lambda m, y: y.flatten(0, 1)[8:].sum((0, 1, 2))[None, None],
    "total_written_down": lambda m, y: y.reshape(-1, 288) * torch.arange(288),
    "pixels_written_down": lambda m, y: y.reshape(-1, 8, 36).sum((1, 2))[:, None] ** 2,
    "pixels_written_down_for_each": lambda m, y: (y.reshape(-1, 36) ** 2).sum(0, keepdim=True),
    "pixel_written_down": lambda m, y: F.avg_pool2d(y, 6).reshape(-1, 1, 8, 1).mean((2, 3)) ** 2,
    "pixel_left_out": lambda m, y: F.avg_pool2d(y, 6).view(-1, 8).mean(1, keepdim=True) ** 2,
    "pixels_before_channels": lambda m, y: F.avg_pool2d(y, 6).view(y.shape[0], -1, 8).mean(1) ** 2,
    "rows_of_six": lambda m, y: y.flatten(1, 2).view(y.shape[0], -1, 6, y.shape[3]).sum(1) ** 2,
    "rows_of_twelve": lambda m, y: y.flatten(1).view(y.shape[0], -1, 12).sum(2) ** 2,
    "rows_of_twelve_at_once": lambda m, y: y.reshape(y.shape[0], -1, 12).sum(2) ** 2,
    "rows_first_six": lambda m, y: y.transpose(1, 2).flatten(1).view(y.shape[0], 6, -1).sum(1) ** 2,
    "columns_first_four": lambda m, y: y.permute(0, 3, 2, 1).flatten(1).view(y.shape[0], 4, -1).sum(1) ** 2,
    "columns_first_eight": lambda m, y: y.permute(0, 1, 3, 2).flatten(1).view(y.shape[0], -1, 8).sum(2) ** 2,
}
SHAPES = [
    (1, 6, 6), (4, 6, 6), (2, 8, 8), (2, 4, 9), (2, 3, 12), (2, 12, 3), (3, 4, 6), (4, 3, 6), (4, 7, 5), (2, 4, 4),
    (1, 6, 12), (2, 12, 12),
]  # fmt: skip


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("name", [*EVERY, *SOME])
def test_other_shapes_with_as_many_elements_too(name: str, frontend: str) -> None:
    torch.manual_seed(0)
    model = Maps((EVERY | SOME)[name]).double().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64), frontend=frontend)
    mask = program.random_mask(keep=0.5, seed=0)
    zeroed, compact, gated = program.zeroed(mask), program.compact(mask), program.gated()
    gated.set_mask(mask)
    taken = 0
    for batch, height, width in SHAPES:
        x = torch.randn(batch, 3, height, width, dtype=torch.float64)
        try:
            expected = zeroed(x)
        except (RuntimeError, ValueError):
            continue
        for module in (compact, gated):
            try:
                found = module(x)
            except InputSizeError:
                assert name in SOME or frontend == "export"
            else:
                taken += 1
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert taken or name in SOME


class ZerosBeside(nn.Module):
    """Zeros of the batch's size, cut to it, beside channels; then pixels of all and means in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.map, self.fc = conv(3, 8), nn.Conv2d(10, 1, 1), nn.Linear(10 * 36 + 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        joined = torch.cat([y.new_zeros(y.shape[0], 2, y.shape[2], y.shape[3]), y], 1)
        joined = joined * self.map(joined).sigmoid()
        both = torch.cat([joined, joined])[: joined.shape[0]]
        return self.fc(torch.cat([both.flatten(1), y.mean((2, 3))], 1))


def test_the_batch_is_free_where_only_constants_are_tied_to_it() -> None:
    program = atofx.trace(ZerosBeside().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64))
    mask = program.random_mask()
    assert sum(mask.kept.values()) < 8
    zeroed, compact, gated = program.zeroed(mask), program.compact(mask), program.gated()
    gated.set_mask(mask)
    x = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    for module in (compact, gated):
        torch.testing.assert_close(module(x), zeroed(x), rtol=1e-9, atol=1e-9)


class Places(nn.Module):
    """Feature maps, something done with them by their sizes, and a convolution that mixes them."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.function = function
        self.conv, self.body, self.fc = conv(3, 8), conv(width, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.function(self.conv(x).relu())).relu().mean((2, 3)))


def written(y: Tensor, value: Tensor | float, channels: slice = slice(None)) -> Tensor:
    y = y.clone()
    y[:, channels, :2] = value
    return y


def joined(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """One node for all, where an unpacked tuple would be a node for each."""
    return a + b


def beside_zeros(y: Tensor) -> Tensor:
    """Zeros have ids along every dimension, as channels do."""
    return torch.cat([y.new_zeros(y.shape[0], 2, y.shape[2], y.shape[3]), y], 1)


def rolled(y: Tensor) -> Tensor:
    return y.roll(y.shape[2], 1)


def shuffled(by: int) -> Tensor:
    return (torch.arange(8) + by) % 8


#: Numbers computed from sizes that stay numbers, and how many groups of channels can be pruned beside the body's.
FREE: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "truth_of_the_image": (lambda y: y + (y.shape[2] > 6), 0),
    "truth_of_the_batch": (lambda y: y + (y.shape[0] > 2), 0),
    "truth_multiplied": (lambda y: y * (y.shape[2] > 6) + y, 1),
    "power_of_a_truth": (lambda y: y ** (y.shape[2] == 6), 0),
    "zero_at_the_example": (lambda y: written(y, torch.full((1,), y.shape[2] - 6.0, dtype=y.dtype)), 0),
    "zeros_of_a_short_line": (lambda y: written(y, (torch.arange(y.shape[3]) - 5).clamp(min=0).to(y.dtype)), 0),
    "zeros_of_the_size": (lambda y: written(y, torch.zeros(1, 1, 1, y.shape[3], dtype=y.dtype)), 1),
    "stride": (lambda y: y / y.stride(0), 0),
    "strides": (lambda y: y / y.stride()[0], 0),
    "stride_of_a_view": (lambda y: y / y[:, 4].stride(0), 0),
    "offset": (lambda y: y * y[:, 4].storage_offset(), 0),
    "bytes": (lambda y: y / y.nbytes, 1),
    "elements_of_the_shape": (lambda y: y / y.shape.numel(), 1),
    "sizes_joined": (lambda y: y / math.prod(joined((2,), y.shape[1:])), 1),
    "whole_shape": (lambda y: y * (y.shape == (y.shape[0], 8, *y.shape[2:])), 1),
    "consensus": (lambda y: y.view(joined((-1, 1), y.shape[1:])).mean(1), 1),
    "channels_in_the_batch": (lambda y: (y.reshape(joined((-1,), y.shape[2:])) * 2).view(y.shape), 1),
    "pixels_in_a_line": (lambda y: (y.reshape(joined(y.shape[:2], (-1,))) * 2).view(y.shape), 1),
    "pixels_rolled": (lambda y: y.roll(y.shape[2:], (2, 3)) + y.roll(y.shape[2] // 2, 2), 1),
}
#: Places of channels that hold for one image size: how many channels are left, in how many groups.
OF_THE_IMAGE: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "rolled": (rolled, 8, 1),
    "rolled_beside_zeros": (lambda y: rolled(beside_zeros(y).relu()), 10, 1),
    "rolled_by_sizes": (lambda y: y.roll(y.shape[2:], (1, 3)), 8, 1),
    "index": (lambda y: y[:, shuffled(y.shape[2])], 8, 1),
    "index_of_last_sizes": (lambda y: y[:, shuffled(y.shape[-2:][0])], 8, 1),
    "index_select": (lambda y: y.index_select(1, shuffled(y.shape[2])), 8, 1),
    "split": (lambda y: y.split([y.shape[2] - 4, 4, 8 - y.shape[2]], 1)[1], 4, 3),
    "zeros_written": (lambda y: written(y, 0.0, slice(y.shape[2] - 4)), 8, 1),
}
#: The same for one batch.
OF_THE_BATCH: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "rolled": (lambda y: y.roll(y.shape[0], 1), 8, 1),
    "slice": (lambda y: y[:, y.shape[0] : y.shape[0] + 4], 4, 2),
    "index": (lambda y: y[:, shuffled(y.shape[0])], 8, 1),
    "batch_second": (lambda y: y[:, shuffled(y.permute(2, 0, 1, 3).shape[1])], 8, 1),
    "narrow": (lambda y: y.narrow(1, y.shape[0], 4), 4, 2),
    "zeros_written": (lambda y: written(y, 0.0, slice(y.shape[0])), 8, 1),
}


@pytest.mark.parametrize("name", FREE)
def test_numbers_computed_from_sizes(name: str) -> None:
    function, groups = FREE[name]
    check_places(function, 8, groups, ())


@pytest.mark.parametrize("name", OF_THE_IMAGE)
def test_places_computed_from_sizes_of_images(name: str) -> None:
    check_places(*OF_THE_IMAGE[name], refused=((2, 8, 8),))


@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_places_computed_from_the_batch(name: str) -> None:
    check_places(*OF_THE_BATCH[name], refused=((3, 6, 6),))


def check_places(
    function: Callable[[Tensor], Tensor], width: int, groups: int, refused: tuple[tuple[int, int, int], ...]
) -> None:
    """At every shape the model's own answer, except for those that are refused."""
    torch.manual_seed(0)
    model = Places(function, width).double().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64), frontend="symbolic")
    assert len(program.prunable) == groups + 1
    mask = program.random_mask(keep=0.5, seed=0)
    zeroed, gated = program.zeroed(mask), program.gated()
    gated.set_mask(mask)
    shapes = [(2, 6, 6), *refused] if refused else [(2, 6, 6), (2, 8, 8), (2, 7, 6), (3, 6, 6), (1, 9, 5)]
    for batch, height, width in shapes:
        x = torch.randn(batch, 3, height, width, dtype=torch.float64)
        expected = zeroed(x)
        for module in (program.compact(mask), gated):
            if (batch, height, width) in refused:
                with pytest.raises(InputSizeError):
                    module(x)
            else:
                torch.testing.assert_close(module(x), expected, rtol=1e-9, atol=1e-12)


def test_another_batch_passes_where_places_hang_on_the_image() -> None:
    torch.manual_seed(0)
    model = Places(rolled, 8).double().eval()
    program = atofx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64), frontend="symbolic")
    mask = program.random_mask()
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(program.compact(mask)(x), program.zeroed(mask)(x), rtol=1e-9, atol=1e-12)
