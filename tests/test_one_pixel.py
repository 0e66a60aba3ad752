"""Traced with one row or one column, and used with more: the model's answer, or an error that names the size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import InputSizeError
from atofx.passes.trace import Frontend
from tests.models.case import conv

Step = Callable[[Tensor], Tensor]
CHANNELS = 8


class OneLine(nn.Module):
    """Channels and pixels in one dimension, and something done along it; what is left comes out in rows."""

    def __init__(self, line: Step, done: Step) -> None:
        super().__init__()
        self.first, self.second = conv(3, CHANNELS), conv(CHANNELS, CHANNELS)
        self.line, self.done = line, done

    def forward(self, x: Tensor) -> Tensor:
        y = self.done(self.line(self.second(torch.relu(self.first(x)))))
        return y.flatten(1) if y.dim() > 1 else y


#: How channels and pixels come into one dimension, and of what size the example is.
LINES: dict[str, tuple[Step, tuple[int, int]]] = {
    "flatten": (lambda y: y.flatten(1), (1, 1)),
    "flatten_rows": (lambda y: y.mean(3).flatten(1), (1, 4)),
    "flatten_a_row": (lambda y: y.flatten(1), (1, 4)),
    "flatten_a_column": (lambda y: y.flatten(1), (4, 1)),
    "flatten_columns_last": (lambda y: y.permute(0, 2, 3, 1).flatten(1), (1, 1)),
    "columns_last_of_a_row": (lambda y: y.permute(0, 2, 3, 1).flatten(1), (1, 4)),
    "reshape": (lambda y: y.reshape(y.shape[0], -1), (1, 1)),
    "columns_side_by_side": (lambda y: torch.stack(y.unbind(3), 1).flatten(1), (1, 1)),
    "squeeze": (lambda y: y.squeeze(3).squeeze(2), (1, 1)),
    "squeeze_two": (lambda y: y.squeeze(2, 3), (1, 1)),
    "squeeze_all": (lambda y: y.squeeze(), (1, 1)),
    "flatten_four_pixels": (lambda y: y.flatten(1), (2, 2)),
}
DONE: dict[str, Step] = {
    "slice": lambda y: y[:, 2:5],
    "last": lambda y: y[:, -3:],
    "every_second": lambda y: y[:, ::2],
    "select": lambda y: y[:, 3],
    "split": lambda y: y.split(2, 1)[1],
    "chunk": lambda y: y.chunk(3, 1)[0],
    "tensor_split": lambda y: y.tensor_split(4, 1)[0],
    "narrow": lambda y: y.narrow(1, 1, 3),
    "roll": lambda y: y.roll(1, 1),
    "pad": lambda y: F.pad(y, (-1, -1)),
    "mean": lambda y: y.mean(1),
    "deviation": lambda y: y.std(1),
    "divided_by_length": lambda y: y.sum(1) / y.shape[1],
    "largest": lambda y: y.max(1)[0],
    "products": lambda y: (y.unsqueeze(1) * y.unsqueeze(2)).mean((1, 2)),
    "halves": lambda y: y.view(y.shape[0], 2, -1)[:, 0],
    "means_of_four": lambda y: y.unflatten(1, (-1, 4)).mean(1),
    "ramp": lambda y: y * torch.arange(y.shape[1]).reshape(-1, *[1] * (y.dim() - 2)),
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("line", LINES)
def test_more_pixels_than_the_example_has(line: str, frontend: str) -> None:
    step, example = LINES[line]
    sizes = [example, *(size for size in ((1, 1), (2, 1), (1, 3), (4, 4)) if size != example)]
    assert answers(step, DONE, [(2, *size) for size in sizes], frontend) >= 2 * len(DONE)


def answers(line: Step, done: Mapping[str, Step], sizes: Sequence[tuple[int, int, int]], frontend: Frontend) -> int:
    """:func:`answers_agree` over all functions, for inputs of these sizes: batch and pixels, the example's first."""
    answered = 0
    for name, function in done.items():
        torch.manual_seed(0)
        model = OneLine(line, function).double().eval()
        example, *others = [torch.randn(batch, 3, *pixels, dtype=torch.float64) for batch, *pixels in sizes]
        program = atofx.trace(model, example, frontend=frontend)
        answered += answers_agree(model, program, [example, *others], name)
    return answered


def answers_agree(model: nn.Module, program: atofx.Program, inputs: Sequence[Tensor], name: str) -> int:
    """How often compact and gated models answer, which they must do as the zeroed one.

    The first input is like the example, any other may be refused with the error for its size. The graph must answer as
    the model does.
    """
    mask = program.random_mask(keep=0.5, seed=1)
    zeroed, compact, gated = program.zeroed(mask), program.compact(mask), program.gated()
    gated.set_mask(mask)
    answered = 0
    for place, x in enumerate(inputs):
        size = tuple(x.shape)
        with torch.no_grad():
            try:
                dense = model(x)
            except (RuntimeError, IndexError):
                continue  # the model does not take that size
            whole, zero, small, open_ = (
                _answer(module, x, must=place == 0) for module in (program.module, zeroed, compact, gated)
            )
        assert whole is None or torch.equal(whole, dense), f"{name}: the graph at {size}"
        for what, answer in (("compact", small), ("gated", open_)):
            assert answer is None or (zero is not None and _same(answer, zero)), f"{name}: {what} at {size}"
            answered += answer is not None
    return answered


def _answer(module: nn.Module, x: Tensor, *, must: bool) -> Tensor | None:
    """None where the module refuses the size with the error for it."""
    try:
        return module(x)
    except InputSizeError:
        if must:
            raise
        return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9)
