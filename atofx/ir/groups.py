"""Groups of coupled channels: plain data that is never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from atofx.ir.record import record

Role = Literal["producer", "consumer"]


@record
class Member:
    """One axis of one parameter or buffer that a group reaches.

    Attributes:
        name: qualified name of the parameter or buffer in the user's model.
        dim: the axis.
        role: ``"producer"`` if zeroing the coordinates makes the unit's values zero, ``"consumer"`` if they are only
            cut.
        unit: LongTensor of the axis' length; the unit of the group each coordinate belongs to, -1 for none.
    """

    name: str
    dim: int
    role: Role
    unit: torch.Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """All units of one shape: the thing a mask vector ranges over.

    Attributes:
        name: stable across runs; the module (or parameter) that produces the channels first.
        size: number of units.
        prunable: whether units may be removed.
        reason: why not, if not.
        members: every axis that holds coordinates of the group's units.
    """

    name: str
    size: int
    prunable: bool
    reason: str | None
    members: tuple[Member, ...]

    @property
    def channels(self) -> int:
        """Number of coordinates along the widest producer axis."""
        counts = [int((m.unit >= 0).sum()) for m in self.members if m.role == "producer"]
        return max(counts, default=self.size)
