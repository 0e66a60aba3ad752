"""One-shot criteria as a training method: rank once at a given moment, then hold the dropped units at zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from atofx.ir.limits import Limits
from atofx.ir.mask import Mask
from atofx.methods import oneshot, parallel
from atofx.methods.producers import Dropped, producer_axes
from atofx.methods.protocol import Batch, BatchSource, StateValue, draw
from atofx.methods.selection import UnitSpace, select
from atofx.methods.shares import Scope

if TYPE_CHECKING:
    from atofx.program import Program

_BATCHES = 10  # for criteria that look at gradients


class OneShot:
    """The baseline every pruning method is measured against: train, cut once, train on.

    Args:
        program: the traced model.
        flops: kept fraction of the whole model's FLOPs (multiply-adds counted once).
        criterion: ``l1``, ``l2``, ``bn-scale``, ``taylor`` or ``random``.
        scope: how units of different groups compare.
        prune_step: the optimizer step after which the units are ranked.
        limits: minimum widths and rounding.
        seed: of ``random``.
        loss_fn: (output, targets) -> scalar, for ``taylor``.
    """

    def __init__(
        self,
        program: Program,
        *,
        flops: float,
        criterion: str,
        scope: Scope,
        prune_step: int,
        limits: Limits,
        seed: int,
        loss_fn: Callable[[Any, Any], torch.Tensor],
    ) -> None:
        self._program = program
        self._flops = flops
        self._criterion = criterion
        self._scope = scope
        self._prune_step = prune_step
        self._limits = limits
        self._seed = seed
        self._loss_fn = loss_fn
        self._space = UnitSpace(select(program))
        self._axes = producer_axes(self._space)
        self._keep = torch.ones(self._space.total, dtype=torch.bool)
        self._dropped: Dropped | None = None
        self._step = 0
        self._kept_flops = 1.0

    def due(self) -> bool:
        """True if the coming :meth:`step` ranks the units by gradients."""
        return self._criterion == "taylor" and self._dropped is None and self._step >= self._prune_step

    def step(self, *, lr: float, batch: BatchSource) -> None:
        """Rank when it is time; from then on hold the dropped units at zero."""
        if self._dropped is None and self._step >= self._prune_step:
            self._decide([draw(batch) for _ in range(_BATCHES)] if self.due() else [])
        if self._dropped is not None:
            self._dropped.zero_()
        self._step += 1

    def mask(self) -> Mask:
        """The decision; before it is taken, what gradient-free criteria would decide now."""
        return self.present_mask() if self._dropped is not None else self._rank([])

    def present_mask(self) -> Mask:
        """The mask in force: all kept, then the decision."""
        return self._space.mask(self._program, self._keep)

    def finish(self, optimizer: torch.optim.Optimizer | None = None) -> Mask:
        """Dropped producers (and their momentum) are exactly zero; ranks now if that has not happened."""
        if self._dropped is None:
            self._decide([])
        assert self._dropped is not None
        self._dropped.zero_()
        if optimizer is not None:
            self._dropped.clear_momentum_(optimizer)
        return self.present_mask()

    def metrics(self) -> dict[str, float]:
        """``flops`` (kept fraction of the present mask) and ``frozen``."""
        return {"flops": self._kept_flops, "frozen": float(self._dropped is not None)}

    def state_dict(self) -> dict[str, StateValue]:
        """Flat: tensors and numbers."""
        return {"step": self._step, "decided": self._dropped is not None, "keep": self._keep.clone()}

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`state_dict`."""
        step, keep = state["step"], state["keep"]
        assert isinstance(step, int)
        assert isinstance(keep, torch.Tensor)
        self._step = step
        if state["decided"]:
            self._put_in_force(keep.cpu())

    def _decide(self, batches: list[Batch]) -> None:
        keep = self._space.join(self._rank(batches)).bool()
        # Processes rank by their own parts of the batches; the first one's mask holds.
        device = self._program.tensor(self._axes[0].name).device if self._axes else torch.device("cpu")
        self._put_in_force(parallel.agree(keep, device))

    def _rank(self, batches: list[Batch]) -> Mask:
        return oneshot(
            self._program,
            self._flops,
            self._criterion,
            scope=self._scope,
            batches=batches,
            limits=self._limits,
            seed=self._seed,
            loss_fn=self._loss_fn,
        )

    def _put_in_force(self, keep: torch.Tensor) -> None:
        self._keep = keep
        self._dropped = Dropped(self._program, self._space, self._axes, keep)
        self._kept_flops = self._program.flops(self.present_mask()) / self._program.flops()
