"""What a mixed network computes at the moment: widths of groups and depths of stages, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atofx.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Widths:
    """A mixture of widths of one group.

    Attributes:
        counts: numbers of units; each stands for the first so many.
        weights: (counts,), gradients reach them.
    """

    counts: tuple[int, ...]
    weights: Tensor


class ChoiceBank(nn.Module):
    """Holds the present choices. Not part of the state dict.

    Args:
        widths: by group name, the numbers of units there are to choose from, rising.
        depths: by stage name, the depths there are to choose from, rising.
    """

    def __init__(self, widths: Mapping[str, Sequence[int]], depths: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.candidates = {name: tuple(counts) for name, counts in widths.items()}
        self.depth_candidates = {name: tuple(depths_) for name, depths_ in depths.items()}
        self.widths: dict[str, Widths] = {}
        self.depths: dict[str, Tensor] = {}

    def set_widths(self, widths: Mapping[str, Widths]) -> None:
        """Use these from now on; a group without one has its largest width.

        Raises:
            ConfigError: another group or width than there is to choose from, or not one weight a width.
        """
        for name, chosen in widths.items():
            known = self.candidates.get(name, ())
            if not chosen.counts or not set(chosen.counts) <= set(known):
                raise ConfigError(f"group {name!r} has the widths {known} to choose from, not {chosen.counts}")
            if chosen.weights.shape != (len(chosen.counts),):
                raise ConfigError(f"{len(chosen.counts)} widths of {name!r} need as many weights")
        self.widths = dict(widths)

    def set_depths(self, depths: Mapping[str, Tensor]) -> None:
        """Use these weights, one a candidate, from now on; a stage without them has its largest depth.

        Raises:
            ConfigError: another stage than there is to choose from, or not one weight a depth.
        """
        for name, weights in depths.items():
            known = self.depth_candidates.get(name, ())
            if weights.shape != (len(known),):
                raise ConfigError(f"stage {name!r} has the depths {known} to choose from, not {len(weights)}")
        self.depths = dict(depths)

    def widths_of(self, name: str) -> Widths:
        """The present mixture of a group."""
        return self.widths.get(name) or Widths(self.candidates[name][-1:], torch.ones(1))
