"""Methods that are optimizers, driven like any other method: the one place that joins the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from atofx.errors import ConfigError
from atofx.ir.mask import Mask
from atofx.methods import SparseOptimizer
from atofx.methods.protocol import BatchSource, StateValue


class OptimizerMethod:
    """A :class:`~atofx.methods.Method` whose work is done inside of the optimizer's step.

    The engine exchanges its optimizer for :meth:`wrap` of it. The optimizer's own state dict holds all there is.

    Args:
        make: makes the method's optimizer around the network's.
    """

    def __init__(self, make: Callable[[torch.optim.Optimizer], SparseOptimizer]) -> None:
        self._make = make
        self._made: SparseOptimizer | None = None

    def wrap(self, base: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer to train with."""
        self._made = self._make(base)
        return self._made

    def due(self) -> bool:
        """Never: it needs no batch of its own."""
        return False

    def step(self, *, lr: float, batch: BatchSource) -> None:
        """Nothing: the optimizer's step has done it."""

    def mask(self) -> Mask:
        """The decision: frozen, or what would be frozen now."""
        return self._optimizer.mask()

    def present_mask(self) -> Mask:
        """What is not zero now."""
        return self._optimizer.present_mask()

    def finish(self, optimizer: torch.optim.Optimizer | None = None) -> Mask:
        """Dropped units and their momentum are exactly zero."""
        return self._optimizer.finish()

    def metrics(self) -> dict[str, float]:
        """Those of the optimizer."""
        return self._optimizer.metrics()

    def state_dict(self) -> dict[str, StateValue]:
        """Nothing beside the optimizer's state."""
        return {}

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Nothing beside the optimizer's state."""

    @property
    def _optimizer(self) -> SparseOptimizer:
        if self._made is None:
            raise ConfigError("this method is an optimizer: train with wrap(optimizer)")
        return self._made
