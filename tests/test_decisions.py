"""What the model's Python code decides by sizes: the graph holds for the example's outcome, and says so at others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torchvision.models.swin_transformer import SwinTransformer

import atofx
from atofx.errors import InputSizeError
from atofx.nn.sizes import expect_decision
from atofx.testing import relative_error
from tests.models.case import conv
from tests.outcomes import check_outcomes, images


class Deciding(nn.Module):
    """A convolution, something that is decided by sizes, a residual convolution."""

    def __init__(self, decide: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.decide = decide
        self.stem, self.body, self.fc = conv(3, 8), conv(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.decide(self.stem(x).relu())
        return self.fc((y + self.body(y)).mean((2, 3)))


def halved_if_wide(y: Tensor) -> Tensor:
    return y[..., ::2] if y.shape[3] > 8 else y


def at_least_five(y: Tensor) -> Tensor:
    return y / max(y.shape[3], 5)


def rows_in_turn(y: Tensor) -> Tensor:
    total = torch.zeros_like(y[:, :, 0])
    for i in range(y.shape[2]):
        total = total * 0.5 + y[:, :, i]
    return y + total[:, :, None]


def pieces_in_turn(y: Tensor) -> Tensor:
    total = y.new_zeros(())
    for piece in y.split(3, 3):
        total = total + piece.square().mean()
    return y * total


def rows_one_by_one(y: Tensor) -> Tensor:
    return torch.stack(list(y.unbind(2))[::-1], 2)


def samples_in_turn(y: Tensor) -> Tensor:
    return torch.stack([sample * (i + 1) for i, sample in enumerate(y)])


def samples_and_channels(y: Tensor) -> Tensor:
    return y / len(y.flatten(0, 1))


def whole_half(y: Tensor) -> Tensor:
    return y * int(y.shape[3] * 0.5)


def same_size(y: Tensor) -> Tensor:
    return y if y.shape[2:] == y.transpose(2, 3).shape[2:] else y * 2


#: Shapes at which the outcome is that of the example, and at which it is another one.
SAME, OTHER = (2, 3, 8, 8), {
    halved_if_wide: ([(2, 3, 9, 7), (1, 3, 4, 8)], [(2, 3, 8, 9)]),
    at_least_five: ([(2, 3, 4, 5), (3, 3, 8, 20)], [(2, 3, 8, 4)]),
    rows_in_turn: ([(3, 3, 8, 11)], [(2, 3, 7, 8), (2, 3, 9, 8)]),
    pieces_in_turn: ([(3, 3, 5, 9), (2, 3, 8, 7)], [(2, 3, 8, 10), (2, 3, 8, 6)]),
    rows_one_by_one: ([(3, 3, 8, 5)], [(2, 3, 9, 8)]),
    samples_in_turn: ([(2, 3, 5, 9)], [(3, 3, 8, 8), (1, 3, 8, 8)]),
    samples_and_channels: ([(2, 3, 5, 9)], [(3, 3, 8, 8), (1, 3, 8, 8)]),
    whole_half: ([(4, 3, 9, 8)], [(2, 3, 8, 12)]),
    same_size: ([(2, 3, 5, 5), (1, 3, 12, 12)], [(2, 3, 8, 9)]),
}  # fmt: skip


@pytest.mark.parametrize("decide", OTHER)
def test_another_outcome_is_refused(decide: Callable[[Tensor], Tensor]) -> None:
    model = Deciding(decide).double().eval()
    program = atofx.trace(model, images(SAME), frontend="symbolic")
    assert len(program.prunable) == 1
    message = r"decides something by its inputs' sizes.*Trace the model"
    check_outcomes(model, program, SAME, *OTHER[decide], message)


@pytest.mark.parametrize(
    ("decide", "line"),
    [
        (halved_if_wide, r"return y\[\.\.\., ::2\] if y\.shape\[3\] > 8"),
        (rows_in_turn, r"for i in range\(y\.shape\[2\]\):"),
        (pieces_in_turn, r"for piece in y\.split\(3, 3\):"),
    ],
)
def test_the_message_names_the_line(decide: Callable[[Tensor], Tensor], line: str) -> None:
    program = atofx.trace(Deciding(decide).double(), images(SAME))
    with pytest.raises(InputSizeError, match=rf"test_decisions\.py:\d+: {line}"):
        program.compact(program.random_mask())(images((2, 3, 9, 12)))


def test_what_torch_only_looks_at_is_no_decision() -> None:
    """torch asks the arguments of its functions whether they are integers, and then hands them on."""

    def reshaped(y: Tensor) -> Tensor:
        b, _, h, w = y.shape
        kernel = torch.ones(b, 1, 3, 3, dtype=y.dtype)
        mean = torch.nn.functional.conv2d(torch.reshape(y.mean(1), (1, b, h, w)), kernel, padding=1, groups=b)
        return torch.reshape(torch.reshape(y, (b, 2, 4, h, w)), (b, 8, h, w)) * torch.broadcast_to(
            torch.reshape(mean, (b, 1, h, w)), (b, 8, h, w)
        )

    model = Deciding(reshaped).double().eval()
    program = atofx.trace(model, images(SAME))
    assert not checks(program.module)
    x = images((3, 3, 9, 12))
    assert relative_error(program.module(x), model(x)) == 0


def test_types_and_devices_are_free() -> None:
    def by_type(y: Tensor) -> Tensor:
        return y * 2 if y.dtype == torch.float64 and not y.is_cuda else y * 3

    program = atofx.trace(Deciding(by_type).double(), images(SAME))
    assert not checks(program.module)


def test_widths_are_no_sizes_of_images() -> None:
    """What is decided by a number of channels stays decided, however many of them are left."""

    def by_width(y: Tensor) -> Tensor:
        return y * 2 if y.shape[1] == 8 and len(y[0]) > 7 else y

    model = Deciding(by_width).double().eval()
    program = atofx.trace(model, images(SAME))
    mask = program.random_mask(keep=0.2)
    x = images((3, 3, 5, 9))
    assert relative_error(program.compact(mask)(x), program.zeroed(mask)(x)) <= 1e-9
    assert program.widen(2).double()(x).shape == (3, 4)


def test_a_block_that_is_left_out_takes_its_checks_along() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.second, self.fc = conv(3, 8), conv(8, 8), conv(8, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            y = y + self.branch(self.first, y)
            y = y + self.branch(self.second, y)
            return self.fc(y.mean((2, 3)))

        def branch(self, layer: nn.Module, y: Tensor) -> Tensor:
            out: Tensor = layer(y).relu()
            return out if out.shape[2] < 10 else out * 2

    program = atofx.trace(Blocks().double().eval(), images(SAME))
    names = [block.name for block in program.blocks.skippable]
    assert names == ["first", "second"]
    assert [len(stage.blocks) for stage in program.blocks.stages] == [2]
    assert len(checks(program.module)) == 2
    small, none = program.without_blocks(names[:1]), program.without_blocks(names)
    assert len(checks(small.module)) == 1
    assert not checks(none.module)
    assert none.module(images((2, 3, 12, 8))).shape == (2, 4)


def test_shifted_windows() -> None:
    """Swin leaves out the shift where a window holds the whole image."""
    torch.manual_seed(0)
    model = SwinTransformer([2, 2], 8, [2], [2], [4, 4], num_classes=4).double().eval()
    for size, taken, refused in ((16, (12, 20), (8,)), (8, (6,), (16,))):
        program = atofx.trace(model, images((1, 3, size, size)))
        mask = program.random_mask()
        compact, zeroed = program.compact(mask), program.zeroed(mask)
        with torch.no_grad():
            for other in taken:
                x = images((2, 3, other, other))
                assert relative_error(program.module(x), model(x)) <= 1e-12
                assert relative_error(compact(x), zeroed(x)) <= 1e-9
            for other in refused:
                with pytest.raises(InputSizeError, match=r"swin_transformer\.py"):
                    compact(images((1, 3, other, other)))


@pytest.mark.parametrize("decide", [halved_if_wide, rows_in_turn])
def test_compiled_modules_take_other_sizes_and_refuse_the_same(decide: Callable[[Tensor], Tensor]) -> None:
    """torch.compile makes sizes free as soon as a second one comes."""
    program = atofx.trace(Deciding(decide).double().eval(), images(SAME))
    compact = program.compact(program.random_mask())
    compiled = torch.compile(compact, backend="eager")
    taken, refused = OTHER[decide]
    with torch.no_grad():
        for shape in (SAME, *taken):
            x = images(shape)
            assert relative_error(compiled(x), compact(x)) <= 1e-12
        with pytest.raises(InputSizeError):
            compiled(images(refused[0]))


def checks(module: nn.Module) -> list[fx.Node]:
    assert isinstance(module, fx.GraphModule)
    return [node for node in module.graph.nodes if node.target is expect_decision]
