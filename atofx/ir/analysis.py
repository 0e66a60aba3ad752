"""Everything the analysis found out about one traced model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx

from atofx.ir.blueprint import Blueprint
from atofx.ir.groups import Group
from atofx.ir.lineage import Lineage


@dataclass(frozen=True, eq=False)
class Analysis:
    """The traced module, its lineage and its groups: what gates, costs and compaction start from.

    Attributes:
        blueprint: the traced graph on the model's own modules.
        lineage: ids, couplings, gate points, cost factors.
        groups: all groups.
        group_of: per id, index into ``groups`` (-1: none).
        unit_of: per id, the unit within its group.
    """

    blueprint: Blueprint
    lineage: Lineage
    groups: tuple[Group, ...]
    group_of: torch.Tensor
    unit_of: torch.Tensor

    @property
    def module(self) -> fx.GraphModule:
        """The traced graph as a module."""
        return self.blueprint.module

    @cached_property
    def unit_numbers(self) -> torch.Tensor:
        """Per id, a number shared by the ids of one unit and by no others; -1 without one, and at the end."""
        most = max((group.size for group in self.groups), default=0) + 1
        numbers = torch.where(self.group_of >= 0, self.group_of * most + self.unit_of, -1)
        return torch.cat([numbers, torch.full((1,), -1)])

    def copies(self, counts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Per id, how often its unit stands in a wider model.

        Args:
            counts: int64 per unit, by group name; a missing group has every unit once.
        """
        copies = torch.ones(self.lineage.num_ids, dtype=torch.long)
        for index, group in enumerate(self.groups):
            if group.name in counts:
                mine = self.group_of == index
                copies[mine] = counts[group.name][self.unit_of[mine]]
        return copies

    def kept_ids(self, vectors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Per id, whether it is kept. ``vectors``: bool per prunable group; a missing group is kept whole."""
        kept = torch.ones(self.lineage.num_ids, dtype=torch.bool)
        for index, group in enumerate(self.groups):
            vector = vectors.get(group.name)
            if vector is None or bool(vector.all()):
                continue
            mine = self.group_of == index
            kept[mine] = vector[self.unit_of[mine]]
        return kept
