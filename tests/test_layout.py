"""Models whose result depends on how tensors lie in memory are refused: other widths lie in other ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import atofx
from atofx.errors import TraceError


class Changes(nn.Module):
    """Doubled features, which a function changes in place or not."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.change(2 * F.relu(self.conv1(x))))


def in_a_copy(y: Tensor) -> Tensor:
    z = y.permute(0, 2, 3, 1).contiguous()
    z *= 2
    return y * z.permute(0, 3, 1, 2)


def in_channels_last(y: Tensor) -> Tensor:
    z = y.contiguous(memory_format=torch.channels_last)
    return y + z.mul_(3)


def to_channels_last(y: Tensor) -> Tensor:
    z = y.to(memory_format=torch.channels_last)
    return y + z.mul_(3)


def in_flat_pixels(y: Tensor) -> Tensor:
    z = F.silu(y.flatten(2).transpose(1, 2).contiguous(), inplace=True)
    return y + z.transpose(1, 2).reshape(y.shape)


def in_rows(y: Tensor) -> Tensor:
    z = y.flatten(2).mT.reshape(-1, y.shape[1])
    z.mul_(3)
    return y * z.mean()


def below_rows(y: Tensor) -> Tensor:
    z = y.flatten(2).mT.reshape(-1, y.shape[1])
    y.mul_(3)
    return y * z.mean()


def in_parts_of_rows(y: Tensor) -> Tensor:
    first = y.flatten(2).mT.reshape(-1, y.shape[1])[:5]
    y.mul_(3)
    return y * first.mean()


def beside_another(y: Tensor) -> Tensor:
    one, two = y.flatten(1), y.reshape(y.shape[0], -1)
    one.mul_(3)
    return y * two.mean()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frontend", ["auto", "export"])
@pytest.mark.parametrize(
    ("change", "copying"),
    [
        (in_a_copy, "contiguous"),
        (in_channels_last, "contiguous"),
        (to_channels_last, "to"),
        (in_flat_pixels, "contiguous"),
        (in_rows, "reshape"),
        (below_rows, "reshape"),
        (in_parts_of_rows, "reshape"),
        (beside_another, "flatten"),
    ],
)
def test_a_change_that_reaches_another_tensor_in_some_layouts_is_refused(
    change: Callable[[Tensor], Tensor], copying: str, frontend: Any, batch: int
) -> None:
    said = (
        rf"(?s)test_layout\.py:\d+: .*changes in place what another tensor shares or not: Tensor\.{copying} "
        r"\(.*test_layout\.py:\d+: .*copies or not as the elements lie in memory.*clone\(\)"
    )
    with pytest.raises(TraceError, match=said):
        atofx.trace(Changes(change), torch.randn(batch, 3, 6, 6), frontend=frontend)


def test_a_module_that_flattens_is_named() -> None:
    class Flattens(Changes):
        def __init__(self) -> None:
            super().__init__(in_rows)
            self.flatten = nn.Flatten(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = 2 * F.relu(self.conv1(x))
            self.flatten(y.permute(0, 2, 3, 1)).mul_(2)
            return self.conv2(y)

    with pytest.raises(TraceError, match=r"Flatten \(flatten\) \(.*copies or not as the elements lie in memory"):
        atofx.trace(Flattens(), torch.randn(2, 3, 6, 6))


def test_what_the_message_says_helps() -> None:
    def cloned(y: Tensor) -> Tensor:
        z = y.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
        z *= 2
        return y * z.permute(0, 3, 1, 2)

    program = atofx.trace(Changes(cloned).double(), torch.randn(2, 3, 6, 6, dtype=torch.float64))
    assert [group.size for group in program.prunable] == [8]
    for seed in range(3):
        assert program.verify(program.random_mask(keep=0.2, seed=seed)).ok
