"""Projections of dropped units after each optimizer step: proximal (default) and half-space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from atofx.methods.half_space import outweighing, turns_away
from atofx.methods.producers import Dropped

NORM_EPS = 1e-8


class Projection(Protocol):
    """Shrinks the dropped units a little, in place, after every optimizer step."""

    def begin(self, dropped: Dropped) -> None:
        """A mask came into force (or training continues from a checkpoint)."""

    def step(self, dropped: Dropped, *, lmd: float, lr: float) -> None:
        """One projection."""

    def state(self) -> list[torch.Tensor]:
        """What has to be saved beside the model to continue exactly."""

    def restore(self, state: list[torch.Tensor]) -> None:
        """Continue from :meth:`state`."""


@dataclass(frozen=True)
class Proximal:
    """Group proximal step (authors' code of ATO, ``project=gl``; the default).

    ``x_g <- x_g / ||x_g|| * max(0, ||x_g|| - lambda * (n_l / N) * lr)`` with
    ``||x_g|| = sqrt(sum of squares + 1e-8)`` over the unit's producer parameters, n_l dropped units in its group and N
    in all groups.
    """

    def begin(self, dropped: Dropped) -> None:
        """Nothing to prepare."""

    @torch.no_grad()
    def step(self, dropped: Dropped, *, lmd: float, lr: float) -> None:
        """Shrink every dropped unit's norm by its threshold."""
        norms = (dropped.squares() + NORM_EPS).sqrt_()
        dropped.scale_((norms - dropped.share * (lmd * lr)).clamp_(min=0).div_(norms))

    def state(self) -> list[torch.Tensor]:
        """Nothing."""
        return []

    def restore(self, state: list[torch.Tensor]) -> None:
        """Nothing to restore."""


class HalfSpace:
    """Half-space projection as in OTOv2's DHSPG (authors' code), on the units ATO drops and with ATO's lambda.

    With x the unit before the optimizer step, x' after it and g = (x - x') / lr the step's direction:

    * penalty lambda_g = lambda * n_l / N, as in the proximal step; where <x, g> < 0 (the step enlarges the unit), with
      l_min = -<x, g> / ||x|| and l_max = -||g||^2 ||x|| / <x, g>, it is clip(amplify l_min, lambda_g, cap l_min), or
      (l_min + l_max) / 2 if that reaches l_max;
    * trial x'' = x' - lr lambda_g x / ||x||; the unit becomes zero if <x'', x> < epsilon ||x||^2, else it is x''.

    Zero units stay zero. The variant in ATO's own repository cannot run (undefined names, inverted mask). OTOv2's own
    lambda (1e-3 for SGD, 1e-2 for Adam) needs its long trainings: with it the dropped units are far from zero when a
    short training ends, and cutting them costs accuracy (digits, 30 epochs: 86 to 94 % instead of 98 %).

    Args:
        epsilon: ATO's code has 0.1; OTOv2's runs use 0.9 to 0.95.
        amplify: with ``cap``, bounds of the penalty in multiples of l_min.
        cap: ``amplify, cap`` are 2, 10 for SGD and 20, 1000 for Adam and AdamW.
    """

    def __init__(self, *, epsilon: float = 0.1, amplify: float = 2.0, cap: float = 10.0) -> None:
        self.epsilon = epsilon
        self.amplify = amplify
        self.cap = cap
        self._before: list[torch.Tensor] = []

    @torch.no_grad()
    def begin(self, dropped: Dropped) -> None:
        """Remember the parameters before the coming optimizer step."""
        self._before = [tensor.clone() for tensor in dropped.tensors[: dropped.parameters]]

    @torch.no_grad()
    def step(self, dropped: Dropped, *, lmd: float, lr: float) -> None:
        """Penalise and project every dropped unit."""
        if not dropped.count or not self._before:
            return
        now = dropped.tensors[: dropped.parameters]
        before = self._before
        if lmd > 0 and lr > 0:
            directions = torch._foreach_div(torch._foreach_sub(before, now), lr)
            xx, xg, gg = (
                dropped.dots(a, b) for a, b in ((before, before), (before, directions), (directions, directions))
            )
            norm, base = xx.sqrt(), dropped.share * lmd
            pull = outweighing(base, lambda low: base.maximum(self.amplify * low).minimum(self.cap * low), xx, xg, gg)
            shrink = torch.where(norm > 0, lr * pull / norm, torch.zeros_like(norm))
            factors = dropped.spread(-shrink, 0.0)[: dropped.parameters]
            torch._foreach_add_(now, torch._foreach_mul(before, factors))
            away = turns_away(dropped.dots(now, before), xx, self.epsilon)
            dropped.scale_((~away & (xx > 0)).to(xx.dtype))
        torch._foreach_copy_(before, now)

    def state(self) -> list[torch.Tensor]:
        """The parameters as they were before the coming optimizer step."""
        return [tensor.clone() for tensor in self._before]

    def restore(self, state: list[torch.Tensor]) -> None:
        """Continue from :meth:`state`."""
        self._before = [tensor.clone() for tensor in state]
