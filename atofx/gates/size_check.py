"""An input that must have the example's sizes where some groups are masked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from atofx.gates.gate import GateBank
from atofx.nn.sizes import expect_sizes


class SizeCheck(nn.Module):
    """Hands on a tensor; where a mask is set for one of the groups, only one of these sizes.

    Args:
        bank: where the masks are.
        groups: whose places of channels are those of one size.
        sizes: of the tensor, None for any.
    """

    def __init__(self, bank: GateBank, groups: Sequence[str], sizes: Sequence[int | None]) -> None:
        super().__init__()
        self._bank = (bank,)  # in a tuple, so that it is registered once
        self.groups = tuple(groups)
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """The tensor itself.

        Raises:
            InputSizeError: it has other sizes, and a mask is set.
        """
        masked = any(name in self._bank[0].vectors for name in self.groups)
        return expect_sizes(x, self.sizes) if masked else x

    def extra_repr(self) -> str:
        """Groups and sizes, for printing."""
        return f"groups={list(self.groups)}, sizes={self.sizes}"
