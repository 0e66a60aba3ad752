"""A mask that was decided before the training: nothing is left to do between two optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from atofx.ir.mask import Mask
from atofx.methods.protocol import BatchSource, StateValue


class Fixed:
    """The method beside a compact network that is trained as it is.

    Args:
        mask: the decision.
        flops: kept fraction of the FLOPs (multiply-adds counted once), for the records.
    """

    def __init__(self, mask: Mask, flops: float) -> None:
        self._mask = mask
        self._flops = flops

    def due(self) -> bool:
        """Never."""
        return False

    def step(self, *, lr: float, batch: BatchSource) -> None:
        """Nothing: the dropped units are not there."""

    def mask(self) -> Mask:
        """The decision."""
        return self._mask

    def present_mask(self) -> Mask:
        """The decision."""
        return self._mask

    def finish(self, optimizer: torch.optim.Optimizer | None = None) -> Mask:
        """The decision."""
        return self._mask

    def metrics(self) -> dict[str, float]:
        """``flops`` (kept fraction) and ``frozen``."""
        return {"flops": self._flops, "frozen": 1.0}

    def state_dict(self) -> dict[str, StateValue]:
        """Nothing changes."""
        return {}

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Nothing changes."""
