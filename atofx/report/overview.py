"""The contents of ``atofx inspect`` as plain data: what can be pruned, what it costs, what is pinned and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from atofx.ir.groups import Group
from atofx.passes.merge import TracedRegions
from atofx.program import Program

_LEAST = 1e-9  # of every group: one unit stays


@dataclass(frozen=True)
class GroupRow:
    """One group.

    Attributes:
        name: the group.
        units: what its mask ranges over.
        channels: coordinates of its widest producer axis (more than ``units`` where a unit is a head or a block).
        prunable: whether units may be removed.
        reason: why not, if not.
        flops_share: the part of the model's FLOPs (0 to 1) that would go if the group were gone. A layer between two
            groups counts for both, so shares can add up to more than one. None where the group is pinned.
        producers: axes such as ``"conv1.weight[0]"`` that are set to zero with a unit.
        consumers: axes that are only cut.
    """

    name: str
    units: int
    channels: int
    prunable: bool
    reason: str | None
    flops_share: float | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True)
class PinRow:
    """An operation without a record: what reaches it is kept whole.

    Attributes:
        op: its name.
        place: the graph node.
        reason: what that means.
    """

    op: str
    place: str
    reason: str


@dataclass(frozen=True)
class Overview:
    """A program in numbers. FLOPs are fused multiply-adds counted once.

    Attributes:
        flops: of the dense model on the example input.
        params: of the dense model.
        least_flops: with one unit left in every prunable group: no target below can be reached.
        least_params: the same for parameters.
        groups: prunable ones first, each kind in the order of the model.
        pins: operations that no record describes.
        frontend: what captured the graph: ``"symbolic"``, ``"export"`` or ``"regions"``.
        frontend_reason: why that one.
        regions: the submodules that were traced where the whole could not be.
    """

    flops: int
    params: int
    least_flops: int
    least_params: int
    groups: tuple[GroupRow, ...]
    pins: tuple[PinRow, ...]
    frontend: str
    frontend_reason: str
    regions: tuple[str, ...]

    @property
    def prunable(self) -> tuple[GroupRow, ...]:
        """The rows of groups whose units may be removed."""
        return tuple(row for row in self.groups if row.prunable)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {"flops_unit": "fused multiply-adds", **asdict(self)}


def overview(program: Program) -> Overview:
    """Collect what is known of a program before any training."""
    dense = int(program.flops())
    least = program.random_mask(keep=_LEAST)
    rows = [_row(program, group, dense) for group in program.groups]
    return Overview(
        flops=dense,
        params=int(program.params()),
        least_flops=int(program.flops(least)),
        least_params=int(program.params(least)),
        groups=tuple(sorted(rows, key=lambda row: not row.prunable)),
        pins=tuple(PinRow(note.op, note.node, note.reason) for note in program.notes),
        frontend=program.frontend,
        frontend_reason=program.frontend_reason,
        regions=program.traced.plan.regions if isinstance(program.traced, TracedRegions) else (),
    )


def _row(program: Program, group: Group, dense: int) -> GroupRow:
    axes = {
        role: tuple(f"{member.name}[{member.dim}]" for member in group.members if member.role == role)
        for role in ("producer", "consumer")
    }
    return GroupRow(
        name=group.name,
        units=group.size,
        channels=group.channels,
        prunable=group.prunable,
        reason=group.reason,
        flops_share=_share(program, group, dense) if group.prunable and dense else None,
        producers=axes["producer"],
        consumers=axes["consumer"],
    )


def _share(program: Program, group: Group, dense: int) -> float:
    gone = {name: torch.ones(vector.numel(), dtype=torch.float64) for name, vector in program.full_mask().items()}
    gone[group.name] = torch.zeros(group.size, dtype=torch.float64)
    return 1.0 - float(program.flops(gone)) / dense
