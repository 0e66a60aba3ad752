"""What graphs must do where a model decides something by sizes: the model's answer, or no answer."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

import atofx
from atofx.errors import InputSizeError
from atofx.testing import relative_error

Shape = tuple[int, ...]


def images(shape: Shape) -> Tensor:
    """Random ones in float64."""
    return torch.randn(shape, dtype=torch.float64)


def check_outcomes(
    model: nn.Module,
    program: atofx.Program,
    example: Shape,
    taken: Iterable[Shape],
    refused: Iterable[Shape],
    message: str,
) -> None:
    """Everything made of a program answers as the model does for some shapes, and refuses others with that message."""
    mask = program.random_mask()
    gated = program.gated()
    gated.set_mask(mask)
    zeroed, compact = program.zeroed(mask), program.compact(mask)
    again = atofx.trace(compact, images(example))
    modules = (zeroed, compact, gated, again.module, again.compact(again.full_mask()))
    with torch.no_grad():
        for shape in (example, *taken):
            x = images(shape)
            assert relative_error(program.module(x), model(x)) == 0
            expected = zeroed(x)
            assert all(relative_error(module(x), expected) <= 1e-9 for module in modules)
        for shape in refused:
            x = images(shape)
            model(x)
            for module in (program.module, *modules):
                with pytest.raises(InputSizeError, match=message):
                    module(x)
