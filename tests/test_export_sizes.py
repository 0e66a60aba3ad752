"""Later inputs of exported graphs: other sizes where the model allows them, one clear error where they are numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import InputSizeError
from atofx.nn.sizes import expect_decision
from atofx.testing import relative_error
from tests.models.case import conv
from tests.outcomes import check_outcomes, images


class PaddedBySize(nn.Module):
    """A size of the input is the number it is padded with: torch.export makes a constant of it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.pad(self.conv1(x).relu(), (1, 1), value=x.shape[self.dim] - 6)).mean((2, 3))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_size_that_became_a_number_is_refused(batch: int) -> None:
    model = PaddedBySize(2).eval()
    small = atofx.trace(model, torch.randn(batch, 3, 8, 8), frontend="export")
    compact = small.compact(small.full_mask())
    wider = torch.randn(5, 3, 8, 16)
    torch.testing.assert_close(compact(wider), model(wider))
    with pytest.raises(InputSizeError, match=r"shape \(any, 3, 8, any\) here, not \(5, 3, 16, 16\).*of the new size"):
        compact(torch.randn(5, 3, 16, 16))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_became_a_number_is_refused(batch: int) -> None:
    model = PaddedBySize(0).eval()
    example = torch.randn(batch, 3, 8, 8)
    program = atofx.trace(model, example, frontend="export")
    compact = program.compact(program.full_mask())
    torch.testing.assert_close(compact(example), model(example))
    with pytest.raises(InputSizeError, match=rf"shape \({batch}, 3, "):
        compact(torch.randn(3, 3, 8, 8))


def test_the_number_of_channels_is_checked_before_the_first_layer() -> None:
    program = atofx.trace(nn.Sequential(conv(3, 4), conv(4, 2)), torch.randn(2, 3, 8, 8), frontend="export")
    mask = program.random_mask(0.5)
    assert program.verify(mask).ok
    assert program.compact(mask)(torch.randn(1, 3, 12, 9)).shape[0] == 1
    with pytest.raises(InputSizeError, match="graph holds for"):
        program.compact(mask)(torch.randn(1, 4, 8, 8))


class WritesRowsBySize(nn.Module):
    """Rows up to a number made of the image's size become zero, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x).relu()
        y[:, :, : y.shape[2] // 2] = 0
        return self.conv2(y).mean((2, 3))


def test_a_written_slice_may_end_at_a_size() -> None:
    model = WritesRowsBySize().eval()
    program = atofx.trace(model, torch.randn(2, 3, 8, 8), frontend="export")
    assert [group.size for group in program.prunable] == [8]
    assert program.verify(program.random_mask(0.5, seed=1)).ok
    wider = torch.randn(3, 3, 12, 10)
    torch.testing.assert_close(program.compact(program.full_mask())(wider), model(wider))


class Deciding(nn.Module):
    """Something that is decided by sizes between two convolutions; only torch.export can show it a tensor."""

    def __init__(self, decide: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.decide = decide
        self.stem, self.body, self.fc = conv(3, 8), conv(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError("needs a tensor")
        return self.fc(self.body(self.decide(self.stem(x).relu())).relu().amax((2, 3)))


def larger_if_high(y: Tensor) -> Tensor:
    return F.avg_pool2d(y, 2) * 3 if y.shape[2] > 9 else y


def other_if_low(y: Tensor) -> Tensor:
    return y * 2 if y.shape[2] < 8 else y


def other_if_square(y: Tensor) -> Tensor:
    return y + y.mT if y.shape[2] == y.shape[3] else y


def other_if_alone(y: Tensor) -> Tensor:
    return y * 2 if y.shape[0] == 1 else y


def half_as_an_integer(y: Tensor) -> Tensor:
    return F.interpolate(y, size=int(y.shape[2] * 0.5))


def root_of_the_area(y: Tensor) -> Tensor:
    return y * int((y.shape[2] * y.shape[3]) ** 0.5)


def number_of_pixels_by_numpy(y: Tensor) -> Tensor:
    return y / float(np.prod(y.shape[-2:]))


def tensor_of_a_size(y: Tensor) -> Tensor:
    return y * y.new_tensor(y.shape[2] - 6.0)


def padded_with_a_size(y: Tensor) -> Tensor:
    return F.pad(y, (1, 1), value=y.shape[2] - 8.0)


def window_of_a_third(y: Tensor) -> Tensor:
    return F.avg_pool2d(y, y.shape[2] // 3)


def pieces_in_turn(y: Tensor) -> Tensor:
    return torch.stack([piece.mean(2) * (i + 1) for i, piece in enumerate(y.split(2, 2))], 2)


def chunks_in_turn(y: Tensor) -> Tensor:
    return torch.stack([piece.mean(2) * (i + 1) for i, piece in enumerate(y.chunk(3, 2))], 2)


def size_of_a_slice(y: Tensor) -> Tensor:
    """How long the slice is torch.export finds out after it recorded it."""
    return y * (1 + y[:, :, :6].shape[2])


def rank_without_single_images(y: Tensor) -> Tensor:
    """What is left of the dimensions has a length, which is a number and no size."""
    return y * y[:, :1, :1, :1].squeeze().dim()


def logarithm(y: Tensor) -> Tensor:
    """numpy has no logarithm of a symbol, so that only the batch stays free."""
    return y * float(np.log2(y.shape[2]))


#: Shapes at which the outcome is that of the example, and at which it is another one.
EXAMPLE, OUTCOMES = (2, 3, 8, 9), {
    larger_if_high: ([(2, 3, 9, 12), (1, 3, 4, 9)], [(2, 3, 10, 9)]),
    other_if_low: ([(2, 3, 12, 4)], [(2, 3, 7, 9), (1, 3, 1, 9)]),
    other_if_square: ([(1, 3, 9, 8)], [(2, 3, 9, 9), (2, 3, 8, 8)]),
    other_if_alone: ([(3, 3, 4, 4)], [(1, 3, 8, 9)]),
    half_as_an_integer: ([(3, 3, 9, 5)], [(2, 3, 10, 9), (2, 3, 7, 9)]),
    root_of_the_area: ([(3, 3, 9, 8), (1, 3, 4, 20)], [(2, 3, 9, 9)]),
    number_of_pixels_by_numpy: ([(3, 3, 9, 8)], [(2, 3, 9, 9)]),
    tensor_of_a_size: ([(3, 3, 8, 8)], [(2, 3, 6, 9)]),
    padded_with_a_size: ([(3, 3, 8, 8)], [(2, 3, 6, 9)]),
    window_of_a_third: ([(1, 3, 7, 9), (3, 3, 6, 5)], [(2, 3, 9, 9)]),
    pieces_in_turn: ([(1, 3, 7, 4)], [(2, 3, 9, 9), (2, 3, 6, 9)]),
    chunks_in_turn: ([(1, 3, 9, 4)], [(2, 3, 4, 9)]),
    size_of_a_slice: ([(1, 3, 12, 4)], [(2, 3, 5, 9)]),
    rank_without_single_images: ([(3, 3, 4, 4)], [(1, 3, 8, 9)]),
    logarithm: ([(3, 3, 8, 9)], [(2, 3, 16, 9)]),
}  # fmt: skip


@pytest.mark.parametrize("decide", OUTCOMES)
def test_another_outcome_is_refused(decide: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Deciding(decide).double().eval()
    program = atofx.trace(model, images(EXAMPLE))
    assert program.frontend == "export"
    assert [group.size for group in program.prunable] == [8, 6]
    check_outcomes(model, program, EXAMPLE, *OUTCOMES[decide], "Trace the model with an example of the new size")


@pytest.mark.parametrize(
    ("decide", "line"),
    [
        (larger_if_high, r"return F\.avg_pool2d\(y, 2\) \* 3 if y\.shape\[2\] > 9"),
        (padded_with_a_size, r"return F\.pad\(y, \(1, 1\), value=y\.shape\[2\] - 8\.0\)"),
        (chunks_in_turn, r"return torch\.stack.*y\.chunk\(3, 2\)"),
    ],
)
def test_the_message_names_the_line(decide: Callable[[Tensor], Tensor], line: str) -> None:
    program = atofx.trace(Deciding(decide).double(), images(EXAMPLE))
    refused = OUTCOMES[decide][1][0]
    with pytest.raises(InputSizeError, match=rf"test_export_sizes\.py:\d+: {line}"):
        program.compact(program.random_mask())(images(refused))


def test_a_batch_of_one_that_is_treated_apart_is_the_only_one() -> None:
    """A batch of one is exported as two, where the same calls are made, but with another number."""
    model = Deciding(other_if_alone_by_a_number).double().eval()
    program = atofx.trace(model, images((1, 3, 8, 9)))
    x = images((1, 3, 8, 9))
    assert relative_error(program.module(x), model(x)) == 0
    with pytest.raises(InputSizeError):
        program.module(images(EXAMPLE))


def other_if_alone_by_a_number(y: Tensor) -> Tensor:
    return y * (2 if y.shape[0] == 1 else 3)


def test_sizes_that_are_the_same_stay_the_same() -> None:
    """torch.export writes one of them for both, also where they are numbers."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.out(self.wide(a) + self.wide(b).relu()) * b.shape[1]

    model = Two().double().eval()
    program = atofx.trace(model, (images((2, 5, 4)), images((2, 5, 4))), frontend="export")
    a, b = images((3, 7, 4)), images((3, 7, 4))
    assert relative_error(program.module(a, b), model(a, b)) == 0
    with pytest.raises(InputSizeError, match="size 1 of "):
        program.module(a, b[:, :1])


def test_what_torch_asks_for_itself_is_free() -> None:
    """Where a tensor lies in memory, whether it is empty, whether it is one image: no answer changes the calls."""

    def moved(y: Tensor) -> Tensor:
        b, c, h, w = y.shape
        tokens = y.flatten(2).transpose(1, 2).contiguous()
        return (tokens @ tokens.mT).softmax(-1).matmul(tokens).mT.reshape(b, c, h, w).contiguous()

    model = Deciding(moved).double().eval()
    program = atofx.trace(model, images(EXAMPLE))
    assert isinstance(program.module, torch.fx.GraphModule)
    assert not [node for node in program.module.graph.nodes if node.target is expect_decision]
    compact = program.compact(program.full_mask())
    for shape in ((1, 3, 8, 9), (3, 3, 4, 4), (1, 3, 1, 1), (2, 3, 1, 5)):
        x = images(shape)
        assert relative_error(compact(x), model(x)) <= 1e-9


def test_regions_that_are_exported_check_too() -> None:
    class Region(Deciding):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.region, self.head = Region(larger_if_high), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.region(x)
            return self.head(y) if y.sum().item() > -1e9 else y

    model = Whole().double().eval()
    program = atofx.trace(model, images(EXAMPLE))
    mask = program.random_mask()
    compact, zeroed = program.compact(mask), program.zeroed(mask)
    taken, refused = OUTCOMES[larger_if_high]
    for shape in (EXAMPLE, *taken):
        x = images(shape)
        assert relative_error(compact(x), zeroed(x)) <= 1e-9
    with pytest.raises(InputSizeError, match="decides something by its inputs' sizes"):
        compact(images(refused[0]))
