"""Index buffers over the producers of units: what lets a projection run without a Python loop over channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atofx.methods.selection import UnitSpace

if TYPE_CHECKING:
    from atofx.program import Program


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a parameter or buffer on which units produce.

    Attributes:
        name: qualified name of the tensor.
        dim: the axis.
        unit: LongTensor (axis length,); flat unit of each coordinate, -1 for none.
    """

    name: str
    dim: int
    unit: torch.Tensor


def producer_axes(space: UnitSpace) -> tuple[Axis, ...]:
    """Every producer axis of the groups in ``space``, one entry an axis however many groups meet on it."""
    merged: dict[tuple[str, int], torch.Tensor] = {}
    for group, offset in zip(space.groups, space.offsets, strict=True):
        for member in group.members:
            if member.role != "producer":
                continue
            unit = member.unit.cpu()
            flat = torch.where(unit >= 0, unit + offset, unit)
            known = merged.get((member.name, member.dim))
            merged[member.name, member.dim] = flat if known is None else torch.where(flat >= 0, flat, known)
    return tuple(Axis(name, dim, unit) for (name, dim), unit in merged.items())


class UnitSet:
    """The producers of some units, ready for per-unit norms and scalings; made once per choice of units.

    A *coordinate* is one index along a producer axis (a filter, a bias entry, a norm's gamma). Norms and other sums
    range over parameters; buffers that produce (the running mean of a norm without gamma and beta) are scaled along.

    Args:
        program: the traced model; its live tensors are referred to, not copied.
        space: the units.
        axes: from :func:`producer_axes`.
        chosen: BoolTensor (space.total,).
    """

    def __init__(self, program: Program, space: UnitSpace, axes: Sequence[Axis], chosen: torch.Tensor) -> None:
        inside = chosen.cpu()
        self.count = int(inside.sum())
        number = torch.full((space.total + 1,), self.count, dtype=torch.long)
        number[:-1][inside] = torch.arange(self.count)
        touched = [(axis, number[axis.unit]) for axis in axes if bool(inside[axis.unit[axis.unit >= 0]].any())]
        tensors = [(axis, unit, program.tensor(axis.name)) for axis, unit in touched]
        tensors.sort(key=lambda item: (not isinstance(item[2], torch.nn.Parameter), item[2].dim() > 1))
        self.dims = [axis.dim for axis, _, _ in tensors]
        self.units = [unit for _, unit, _ in tensors]
        self.tensors = [tensor for _, _, tensor in tensors]
        self.parameters = sum(isinstance(tensor, torch.nn.Parameter) for _, _, tensor in tensors)
        self.device = self.tensors[0].device if self.tensors else torch.device("cpu")
        wide = any(tensor.dtype == torch.float64 for tensor in self.tensors)
        self.dtype = torch.float64 if wide else torch.float32
        self._flat_size = [unit.numel() for unit in self.units]
        every = torch.cat(self.units) if self.units else torch.zeros(0, dtype=torch.long)
        owned = torch.cat(self.units[: self.parameters]) if self.parameters else torch.zeros(0, dtype=torch.long)
        positions = (owned < self.count).nonzero().flatten()
        order = positions[torch.argsort(owned[positions], stable=True)]
        self._order = order.to(self.device)
        self._lengths = torch.bincount(owned[positions], minlength=self.count).to(self.device)
        self._every = every.to(self.device)
        per_group = torch.bincount(space.owner[inside], minlength=len(space.groups))
        share = per_group[space.owner[inside]].to(self.dtype) / max(1, self.count)
        self.share = share.to(self.device)
        """n_l / N of each unit: chosen units of its group over all chosen units."""

    @torch.no_grad()
    def squares(self) -> torch.Tensor:
        """Sum of squares of each unit's parameters, shape (count,)."""
        return self.sums(self._coordinate_squares())

    def dots(self, left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> torch.Tensor:
        """Inner product per unit of two lists of tensors shaped like the parameters."""
        products = torch._foreach_mul(list(left), list(right))
        return self.sums([_over_others(product, dim) for product, dim in zip(products, self.dims, strict=False)])

    def sums(self, coordinates: Sequence[torch.Tensor]) -> torch.Tensor:
        """One value per coordinate of the parameters as one sum per unit; the order of addition is fixed."""
        if not self.count or not coordinates:
            return torch.zeros(self.count, dtype=self.dtype, device=self.device)
        flat = torch.cat(list(coordinates)).to(self.dtype)[self._order]
        return torch.segment_reduce(flat, "sum", lengths=self._lengths, unsafe=True)

    def spread(self, values: torch.Tensor, other: float) -> list[torch.Tensor]:
        """One value per unit as one broadcastable factor per tensor, ``other`` on all other coordinates."""
        padded = torch.cat([values, values.new_full((1,), other)])
        parts = torch.split(padded[self._every], self._flat_size) if self.tensors else ()
        return [
            part.to(tensor.dtype) if tensor.dim() == 1 else part.to(tensor.dtype).view(_shape(tensor, dim))
            for part, tensor, dim in zip(parts, self.tensors, self.dims, strict=True)
        ]

    @torch.no_grad()
    def scale_(self, factors: torch.Tensor) -> None:
        """Multiply every unit by its factor, in place; other coordinates are multiplied by exactly one."""
        if self.count and self.tensors:
            torch._foreach_mul_(self.tensors, self.spread(factors, 1.0))

    @torch.no_grad()
    def zero_(self, tensors: Iterable[tuple[int, torch.Tensor]] | None = None) -> None:
        """Set the units to exactly zero in place: their producers, or ``(position, tensor)`` shaped like them."""
        for position, tensor in enumerate(self.tensors) if tensors is None else tensors:
            index = (self.units[position] < self.count).nonzero().flatten().to(tensor.device)
            tensor.index_fill_(self.dims[position], index, 0)

    def clear_momentum_(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero the rows of the units in every state tensor that is shaped like its parameter."""
        for position, owner in enumerate(self.tensors[: self.parameters]):
            state = optimizer.state.get(owner, {})
            shaped = [v for v in state.values() if isinstance(v, torch.Tensor) and v.shape == owner.shape and v.dim()]
            self.zero_((position, tensor) for tensor in shaped)

    def _coordinate_squares(self) -> list[torch.Tensor]:
        squares: list[torch.Tensor] = []
        vectors = [tensor for tensor in self.tensors[: self.parameters] if tensor.dim() == 1]
        if vectors:
            squares.append(torch.cat(vectors).to(self.dtype).square())
        norms = [
            torch.linalg.vector_norm(tensor, dim=[d for d in range(tensor.dim()) if d != dim], dtype=self.dtype)
            for tensor, dim in zip(self.tensors[: self.parameters], self.dims, strict=False)
            if tensor.dim() > 1
        ]
        if norms:
            squares.append(torch.cat(norms).square())
        return squares


class Dropped(UnitSet):
    """The units that a mask drops.

    Args:
        program: the traced model.
        space: the units.
        axes: from :func:`producer_axes`.
        keep: BoolTensor (space.total,).
    """

    def __init__(self, program: Program, space: UnitSpace, axes: Sequence[Axis], keep: torch.Tensor) -> None:
        super().__init__(program, space, axes, ~keep)


def _over_others(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    return tensor if tensor.dim() == 1 else tensor.sum([d for d in range(tensor.dim()) if d != dim])


def _shape(tensor: torch.Tensor, dim: int) -> list[int]:
    shape = [1] * tensor.dim()
    shape[dim] = -1
    return shape
