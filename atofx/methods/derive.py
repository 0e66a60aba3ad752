"""From probabilities of widths and depths to the network that is trained: the most probable one on target."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from atofx.errors import TargetError
from atofx.ir.limits import Limits
from atofx.ir.mask import Mask
from atofx.ir.patterns import covers
from atofx.methods.calibrate import TOLERANCE as WARN_BEYOND
from atofx.methods.calibrate import calibrate
from atofx.methods.candidates import Choice
from atofx.methods.likely import most_probable
from atofx.passes.carry import carried

if TYPE_CHECKING:
    from atofx.ir.groups import Group
    from atofx.program import Program

TOLERANCE = 1e-3
_MOST = 100_000  # combinations of depths that are looked at


@dataclass(frozen=True, eq=False)
class Derived:
    """A narrower and shallower network.

    Attributes:
        mask: over the groups of the whole network; those in blocks that are left out are whole.
        without: names of these blocks.
    """

    mask: Mask
    without: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Derivation:
    """How the network is read off.

    Attributes:
        program: the whole network.
        groups: those that have widths to choose from.
        limits: minimum widths and rounding.
        target: wanted FLOPs (multiply-adds counted once).
        slack: how far below the target depths alone may end, in FLOPs.
        blocks: by stage name, the names of its blocks.
    """

    program: Program
    groups: tuple[Group, ...]
    limits: Limits
    target: float
    slack: float
    blocks: Mapping[str, tuple[str, ...]]

    def without(self, stages: Sequence[Choice], depths: Sequence[int]) -> tuple[str, ...]:
        """Names of the blocks that are left out where every stage has the candidate of that index."""
        pairs = zip(stages, depths, strict=True)
        return tuple(name for stage, depth in pairs for name in self.blocks[stage.name][stage.kept[depth] :])

    def depths_alone(self, stages: Sequence[Choice], probabilities: Sequence[torch.Tensor]) -> tuple[str, ...]:
        """The most probable depths within the slack of the target; the nearest there are if none is, with a warning."""
        found = [
            (self._flops(names), names)
            for depths in islice(most_probable(probabilities), _MOST)
            for names in [self.without(stages, depths)]
        ]
        within = [names for flops, names in found if self.target - self.slack <= flops <= self.target]
        flops, names = min(found, key=lambda pair: abs(pair[0] - self.target))
        total = int(self.program.flops())
        if not within and abs(flops - self.target) > WARN_BEYOND * self.target:
            warnings.warn(
                f"the nearest depths keep {flops / total:.4f} of the FLOPs for a target of {self.target / total:.4f}: "
                "one block more or less is worth more than the tolerance",
                stacklevel=2,
            )
        return within[0] if within else names

    def depths(self, stages: Sequence[Choice], probabilities: Sequence[torch.Tensor]) -> Iterator[tuple[str, ...]]:
        """Blocks to leave out, the most probable depths first, where the whole widths still reach the target."""
        for depths in islice(most_probable(probabilities), _MOST):
            names = self.without(stages, depths)
            if self._flops(names) >= self.target * (1 - TOLERANCE):
                yield names

    def widths(self, without: tuple[str, ...], scores: Mapping[str, torch.Tensor]) -> Mask:
        """The mask on target that drops the units with the lowest scores.

        Args:
            without: blocks that are left out.
            scores: one vector a group; higher stays longer.

        Raises:
            TargetError: no mask comes down to the target.
        """
        program = self.program
        cut = program.without_blocks(without) if without else program
        whole = [group.name for group in cut.prunable]
        here = carried(self.groups, cut.prunable, scores, missing=torch.nan)
        groups = [group for group in cut.prunable if not bool(here[group.name].isnan().any())]
        per_group = {
            pattern: limit
            for pattern, limit in self.limits.per_group.items()
            if not without or any(covers(pattern, name) for name in whole)
        }
        mask = calibrate(
            cut,
            groups,
            {group.name: here[group.name] for group in groups},
            self.target / int(cut.flops()),
            tolerance=TOLERANCE,
            limits=replace(self.limits, per_group=per_group),
            warn_beyond=WARN_BEYOND,
        ).mask
        return Mask(carried(cut.prunable, program.prunable, mask, missing=True))

    def _flops(self, without: tuple[str, ...]) -> int:
        return int(self.program.flops(blocks=dict.fromkeys(without, False)))


def unreachable_by_depth(target: float, least: int, total: int) -> TargetError:
    """The error that even the shallowest network has more FLOPs."""
    return TargetError(
        f"cannot keep only {target / total:.4f} of the FLOPs by depth: the shallowest network still has {least} of "
        f"{total} multiply-adds, {least / total:.4f} of all. Ask for flops >= {least / total:.4f}, or search the "
        "widths too (search: shape)"
    )
