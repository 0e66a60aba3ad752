"""The widths and depths that a search chooses among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

#: 0.3, 0.4, …, 1.0 of every group (authors' code of TAS).
RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def widths_of(size: int, ratios: Sequence[float] = RATIOS) -> tuple[int, ...]:
    """``int(size * ratio)`` of every ratio, at least 1, without repetitions, rising."""
    return tuple(sorted({max(1, int(size * ratio + 1e-9)) for ratio in ratios}))


def depths_of(blocks: int) -> tuple[int, ...]:
    """Depths of a stage of so many blocks: up to three all, else 1, 3, 5, … and the full one (authors' code of TAS)."""
    step = 1 if blocks <= 3 else 2
    return tuple(sorted({*range(1, blocks + 1, step), blocks}))


@dataclass(frozen=True)
class Choice:
    """Something that has several sizes: a group of units, or a stage of blocks.

    Attributes:
        name: of the group or stage.
        candidates: as the user names them: numbers of units, or depths.
        kept: how many of the things that can go each candidate keeps: units, or blocks.
        size: how many there are.
    """

    name: str
    candidates: tuple[int, ...]
    kept: tuple[int, ...]
    size: int

    @cached_property
    def keeps(self) -> torch.Tensor:
        """float64 (candidates, size): 1 where a candidate keeps the i-th; the last ones go first."""
        return (torch.arange(self.size) < torch.tensor(self.kept)[:, None]).double()

    def probability_of_each(self, probabilities: torch.Tensor) -> torch.Tensor:
        """(size,), float64: how probable it is that the i-th stays: sum of the candidates that keep it.

        Their sum over a group is its expected width.

        Args:
            probabilities: (candidates,).
        """
        return probabilities.double() @ self.keeps.to(probabilities.device)

    def position_of_each(self, probabilities: torch.Tensor) -> torch.Tensor:
        """(size,), float64: like :meth:`probability_of_each`, falling steadily between two candidates.

        One candidate keeps the i-th and everything before it; between two candidates, the earlier of them stay longer.
        """
        stays = self.probability_of_each(probabilities)
        edges = [0, *self.kept, self.size] if self.kept[-1] < self.size else [0, *self.kept]
        values = [*stays[[max(0, edge - 1) for edge in edges[1:]]].tolist(), 0.0]
        result = torch.empty(self.size, dtype=torch.float64)
        for low, high, upper, lower in zip(edges, edges[1:], values, values[1:], strict=False):
            inside = torch.arange(high - low, dtype=torch.float64) / max(1, high - low)
            result[low:high] = upper + (lower - upper) * inside
        return result
