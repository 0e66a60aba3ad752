"""nn.MultiheadAttention opened up gives the module's own bits where the module calls scaled dot product attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import atofx
from tests import invariants

WIDTH, HEADS, LENGTH, SOURCE, BATCH = 12, 3, 50, 17, 5
ROUNDS = 20  # sums differ in their last bits only now and then


class _Itself(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class _Memory(nn.Module):
    """Keys and values out of one other sequence."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, bias=False)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.attention(x, memory, memory, need_weights=False)[0]


class _Three(nn.Module):
    """Queries, keys and values out of three sequences, the last two of other widths."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=5, vdim=7, batch_first=batch_first)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return self.attention(x, keys, values, need_weights=False)[0]


def _sequences(*sizes: tuple[int, int], batch_first: bool, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(BATCH, length, width) if batch_first else (length, BATCH, width) for length, width in sizes]
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "length first"])
@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (_Itself, [(LENGTH, WIDTH)]),
        (_Memory, [(LENGTH, WIDTH), (SOURCE, WIDTH)]),
        (_Three, [(LENGTH, WIDTH), (SOURCE, 5), (SOURCE, 7)]),
    ],
    ids=["itself", "memory", "three"],
)
def test_batches_give_the_modules_bits(
    make: type[nn.Module], sizes: list[tuple[int, int]], *, batch_first: bool
) -> None:
    model = make(batch_first=batch_first).double().train()
    program = atofx.trace(model, _sequences(*sizes, batch_first=batch_first, seed=0))
    for seed in range(ROUNDS):
        invariants.randomise(model, seed)
        program.module.load_state_dict(model.state_dict())
        inputs = _sequences(*sizes, batch_first=batch_first, seed=seed)
        assert torch.equal(invariants.call(program.module, inputs), invariants.call(model, inputs))


def test_one_sequence_without_a_batch_gives_the_modules_bits() -> None:
    model = _Itself(batch_first=True).double().train()
    program = atofx.trace(model, torch.randn(LENGTH, WIDTH, dtype=torch.float64))
    for seed in range(ROUNDS):
        invariants.randomise(model, seed)
        program.module.load_state_dict(model.state_dict())
        inputs = torch.randn(LENGTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(invariants.call(program.module, inputs), invariants.call(model, inputs))
