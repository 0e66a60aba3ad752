"""The parameters of some units laid end to end, so that a step over all of them is a handful of tensor operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from atofx.methods.producers import Axis, UnitSet
from atofx.methods.selection import UnitSpace

if TYPE_CHECKING:
    from atofx.program import Program


class FlatUnits:
    """Producer parameters of a set of units as one vector, in memory order, coordinate by coordinate.

    The vector holds the whole tensors the units lie in; elements of other units are read along and never changed.

    Args:
        program: the traced model; its live tensors are referred to, on the device they are on now.
        space: the units.
        axes: from ``producer_axes``.
        chosen: BoolTensor (space.total,).

    Attributes:
        units: the same units as a :class:`UnitSet`.
        where: LongTensor (count,); flat position of each unit in the space.
        sizes: (count,); number of parameter elements of each unit. 0: only buffers produce it.
    """

    def __init__(self, program: Program, space: UnitSpace, axes: Sequence[Axis], chosen: torch.Tensor) -> None:
        self.units = UnitSet(program, space, axes, chosen)
        self.where = chosen.cpu().nonzero().flatten().to(self.units.device)
        self.parameters = self.units.tensors[: self.units.parameters]
        dims = self.units.dims[: self.units.parameters]
        self._orders = [_memory_order(tensor, dim) for tensor, dim in zip(self.parameters, dims, strict=True)]
        self._rows = [tensor.shape[dim] for tensor, dim in zip(self.parameters, dims, strict=True)]
        widths = [tensor.numel() // rows for tensor, rows in zip(self.parameters, self._rows, strict=True)]
        coordinates = sum(self._rows)
        rows, device = torch.tensor(self._rows, dtype=torch.long), self.units.device
        lengths = torch.repeat_interleave(torch.tensor(widths, dtype=torch.long), rows)
        self._tensor_of = torch.repeat_interleave(torch.arange(len(self._rows)), rows).to(device)
        self._element = torch.repeat_interleave(torch.arange(coordinates), lengths).to(device)
        self._lengths = lengths.to(device)
        self._kept: dict[str, torch.Tensor] = {}
        owners = self.units.units[: self.units.parameters]
        self._unit = torch.cat(owners).to(device) if owners else torch.zeros(0, dtype=torch.long, device=device)
        self.sizes = self.units.sums([self._lengths.to(self.units.dtype)] if owners else [])

    @property
    def count(self) -> int:
        """Number of units."""
        return self.units.count

    def read(self, place: str | None = None) -> torch.Tensor:
        """A copy of all parameter elements, shape (elements,), in float32, or float64 if a tensor is.

        Args:
            place: name of memory that is used again by the next call with this name; None: new memory.
        """
        return self._joined(self.parameters, place)

    def gradients(self, place: str | None = None) -> torch.Tensor:
        """The gradients laid out like :meth:`read`; zero where there is none."""
        found = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        return self._joined(found, place)

    def dots(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Inner products of each unit's elements, shape (count,)."""
        return self.sums(torch.mul(left, right, out=self._memory("product")))

    def sums(self, elements: torch.Tensor) -> torch.Tensor:
        """One value per element as one sum per unit, shape (count,); the order of addition is fixed."""
        if not len(elements):
            return self.units.sums([])
        rows = torch.segment_reduce(elements, "sum", lengths=self._lengths, unsafe=True)
        return self.units.sums([rows])

    def expand(self, values: torch.Tensor, rates: Sequence[float]) -> torch.Tensor:
        """One value per unit on each of its elements, times the tensor's rate; zero on elements of other units.

        The result is overwritten by the next call.

        Args:
            values: (count,).
            rates: one factor per parameter (its learning rate).
        """
        if not len(self._element):
            return values.new_zeros(0)
        rows = torch.cat([values, values.new_zeros(1)])[self._unit]
        if len(set(rates)) == 1:
            rows = rows * rates[0]
        else:
            rows = rows * torch.tensor(rates, dtype=rows.dtype).to(rows.device)[self._tensor_of]
        return torch.index_select(rows, 0, self._element, out=self._memory("expanded"))

    @torch.no_grad()
    def subtract_(self, elements: torch.Tensor) -> None:
        """Subtract one value per element from the parameters, in place."""
        if not self.parameters:
            return
        parts = torch.split(elements, [tensor.numel() for tensor in self.parameters])
        views = [_permuted(tensor, order) for tensor, order in zip(self.parameters, self._orders, strict=True)]
        shaped = [part.view(view.shape).to(view.dtype) for part, view in zip(parts, views, strict=True)]
        torch._foreach_sub_(views, shaped)

    def _joined(self, tensors: Sequence[torch.Tensor], place: str | None) -> torch.Tensor:
        if not tensors:
            return torch.zeros(0, dtype=self.units.dtype, device=self.units.device)
        with torch.no_grad():
            flat = [_permuted(tensor, order).reshape(-1) for tensor, order in zip(tensors, self._orders, strict=True)]
            if place is None:
                return torch.cat(flat).to(self.units.dtype)
            if all(part.dtype == self.units.dtype for part in flat):
                return torch.cat(flat, out=self._memory(place))
            return self._memory(place).copy_(torch.cat(flat))

    def _memory(self, place: str) -> torch.Tensor:
        """Memory for one value per element, kept: fresh pages would cost more than the arithmetic."""
        if place not in self._kept:
            self._kept[place] = torch.empty(len(self._element), dtype=self.units.dtype, device=self.units.device)
        return self._kept[place]


def learning_rates(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> list[float]:
    """The present learning rate of each parameter; 0 for one the optimizer does not hold."""
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    return [rates.get(id(parameter), 0.0) for parameter in parameters]


def _memory_order(tensor: torch.Tensor, dim: int) -> list[int] | None:
    """``dim`` first, the others as they lie in memory: of a dense tensor the permutation is then contiguous.

    None if that changes nothing.
    """
    order = [dim, *sorted((d for d in range(tensor.dim()) if d != dim), key=lambda d: -tensor.stride()[d])]
    return None if order == list(range(tensor.dim())) else order


def _permuted(tensor: torch.Tensor, order: list[int] | None) -> torch.Tensor:
    return tensor if order is None else tensor.permute(order)
