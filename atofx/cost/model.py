"""FLOPs and parameters as functions of the mask: sums of constants times kept extents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atofx.ir.analysis import Analysis
from atofx.ir.values import as_tensor

_BATCH = 2_000_000  # numbers computed at once


@dataclass(frozen=True, eq=False)
class Polynomial:
    """Σ_i constant_i · Π_k extent[factor_ik]; an extent is the number of kept coordinates of one axis.

    Attributes:
        constants: int64 (terms,).
        factors: int64 (terms, degree): indices of extents, padded with the index of the constant extent 1.
    """

    constants: Tensor
    factors: Tensor

    def terms(self, extents: Tensor) -> Tensor:
        """Every term at integer extents, int64."""
        return self.constants * extents[self.factors].prod(1)

    def exact(self, extents: Tensor) -> int:
        """The value at integer extents."""
        return int(self.terms(extents).sum())

    def soft(self, extents: Tensor, shares: Tensor | None = None) -> Tensor:
        """The value at real extents, differentiable.

        Args:
            extents: float64 (extents,).
            shares: float64 (terms,), how much of each term counts; None: all of it.
        """
        terms = self.constants.to(extents.dtype) * extents[self.factors].prod(1)
        return (terms if shares is None else terms * shares).sum()


@dataclass(frozen=True, eq=False)
class CostModel:
    """How FLOPs and parameters depend on the mask.

    Attributes:
        offsets: group name -> start of its units in the concatenated mask; the groups are the prunable ones.
        units: total number of prunable units.
        base: int64 (extents,): coordinates of each axis that are always kept.
        weights: sparse (extents, units): coordinates of each axis that each unit holds.
        flops: multiply-adds of one forward pass on the example input.
        params: number of parameters.
        flops_nodes: the name of the graph node that each term of ``flops`` belongs to.
        node_flops: dense multiply-adds by graph node name.
    """

    offsets: Mapping[str, tuple[int, int]]
    units: int
    base: Tensor
    weights: Tensor
    flops: Polynomial
    params: Polynomial
    flops_nodes: tuple[str, ...]
    node_flops: Mapping[str, int]

    def extents(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Kept extents: int64 for boolean masks, float64 (differentiable) else."""
        soft = any(v.dtype != torch.bool for v in vectors.values())
        parts = []
        for name, (_, size) in self.offsets.items():
            vector = vectors.get(name)
            if vector is None:
                parts.append(torch.ones(size, dtype=torch.float64))
            else:
                parts.append(vector.to(device="cpu", dtype=torch.float64))
        kept = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        total = self.base.to(torch.float64)
        if self.units:
            total = total + torch.sparse.mm(self.weights, kept[:, None])[:, 0]
        return total if soft else total.round().long()

    def flops_with(self, vectors: Mapping[str, Tensor], present: Mapping[frozenset[str], Tensor]) -> Tensor:
        """Multiply-adds where some nodes are there in part only; float64, differentiable.

        Args:
            vectors: hard or soft mask.
            present: how much of them is there, by sets of graph node names; shares of overlapping sets multiply.
        """
        shares = torch.ones(len(self.flops_nodes), dtype=torch.float64)
        for nodes, share in present.items():
            inside = torch.tensor([name in nodes for name in self.flops_nodes], dtype=torch.bool)
            shares = torch.where(inside, shares * share, shares)
        return self.flops.soft(self.extents(vectors).double(), shares)

    def flops_by_node(self, vectors: Mapping[str, Tensor]) -> dict[str, int]:
        """Multiply-adds by graph node name under a boolean mask; nodes without any are left out."""
        found: dict[str, int] = {}
        for name, count in zip(self.flops_nodes, self.flops.terms(self.extents(vectors)).tolist(), strict=True):
            found[name] = found.get(name, 0) + count
        return found

    @cached_property
    def per_unit(self) -> Tensor:
        """float64 (groups, extents): coordinates of each axis that one unit of each group holds."""
        owner = torch.repeat_interleave(
            torch.arange(len(self.offsets)), torch.tensor([size for _, size in self.offsets.values()], dtype=torch.long)
        )
        sizes = torch.bincount(owner, minlength=len(self.offsets))
        extent, unit = self.weights.indices()
        held = torch.zeros(len(self.offsets), len(self.base), dtype=torch.float64)
        if self.units:
            held.index_put_((owner[unit], extent), self.weights.values(), accumulate=True)
        return held / sizes[:, None]

    def flops_by_counts(self, counts: Tensor) -> Tensor:
        """Multiply-adds for numbers of kept units, (masks, groups) -> int64 (masks,): those of any such mask."""
        chunk = max(1, _BATCH // max(1, len(self.flops.constants)))
        return torch.cat([self._flops_of(part) for part in counts.split(chunk)])

    def _flops_of(self, counts: Tensor) -> Tensor:
        extents = (self.base + counts.to(torch.float64) @ self.per_unit).round().long()
        total = self.flops.constants.expand(len(counts), -1)
        for factor in self.flops.factors.unbind(1):
            total = total * extents[:, factor]
        return total.sum(1)


class _Extents:
    """Collects distinct axes."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.prunable = torch.tensor([g.prunable for g in analysis.groups] + [False])
        self.offset = torch.zeros(len(analysis.groups) + 1, dtype=torch.long)
        self.offsets: dict[str, tuple[int, int]] = {}
        position = 0
        for index, group in enumerate(analysis.groups):
            if group.prunable:
                self.offset[index] = position
                self.offsets[group.name] = (position, group.size)
                position += group.size
        self.units = position
        self.base: list[int] = [1]
        self.columns: list[np.ndarray[Any, Any]] = [np.empty(0, dtype=np.int64)]
        self._known: dict[bytes, int] = {}

    def add(self, ids: Tensor) -> int:
        """Index of the extent of a vector of ids."""
        ids = ids.reshape(-1)
        clamped = ids.clamp(min=0)
        group = torch.where(ids >= 0, self.analysis.group_of[clamped], -1)
        free = self.prunable[group]
        units = (self.offset[group] + self.analysis.unit_of[clamped])[free].numpy()
        key = units.tobytes() + ids.numel().to_bytes(8, "little")
        if key not in self._known:
            self._known[key] = len(self.base)
            self.base.append(ids.numel() - units.size)
            self.columns.append(units)
        return self._known[key]

    def matrix(self) -> Tensor:
        """Sparse (extents, units) of multiplicities."""
        rows = np.repeat(np.arange(len(self.columns)), [c.size for c in self.columns])
        columns = np.concatenate(self.columns)
        indices = torch.from_numpy(np.stack([rows, columns]))
        values = torch.ones(columns.size, dtype=torch.float64)
        shape = (len(self.base), max(self.units, 1))
        return torch.sparse_coo_tensor(indices, values, shape, check_invariants=False).coalesce()


def build_cost_model(analysis: Analysis, node_flops: Mapping[str, int]) -> CostModel:
    """The cost model of an analysed module.

    Args:
        analysis: lineage and groups.
        node_flops: dense multiply-adds by node name (:func:`atofx.cost.count.flops_by_node`).
    """
    extents = _Extents(analysis)
    flops = []
    names = []
    for factor in analysis.lineage.costs:
        dense = node_flops.get(factor.node.name, 0)
        if dense == 0:
            continue
        names.append(factor.node.name)
        numerator, denominator = factor.share
        ids = [as_tensor(labels).reshape(-1) for labels in factor.extents]
        flops.append(_term(extents, dense * numerator // denominator, ids))
    whole = [name for name, count in node_flops.items() if count and name not in set(names)]
    flops.extend((node_flops[name], ()) for name in whole)
    params = []
    for name, tensor in _parameters(analysis):
        axes = [analysis.lineage.leaves.get((name, dim)) for dim in range(tensor.dim())]
        ids = [torch.arange(a.start, a.start + a.size) for a in axes if a is not None]
        params.append(_term(extents, tensor.numel(), ids))
    return CostModel(
        extents.offsets,
        extents.units,
        torch.tensor(extents.base),
        extents.matrix(),
        _polynomial(flops),
        _polynomial(params),
        (*names, *whole),
        node_flops,
    )


def _term(extents: _Extents, total: int, ids: Iterable[Tensor]) -> tuple[int, tuple[int, ...]]:
    vectors = list(ids)
    for vector in vectors:
        total, rest = divmod(total, vector.numel())
        assert rest == 0, "a cost that is not a multiple of an extent it scales with"
    return total, tuple(extents.add(v) for v in vectors)


def _polynomial(terms: list[tuple[int, tuple[int, ...]]]) -> Polynomial:
    degree = max((len(f) for _, f in terms), default=0) or 1
    constants = torch.tensor([c for c, _ in terms], dtype=torch.long)
    factors = torch.tensor([[*f, *([0] * (degree - len(f)))] for _, f in terms], dtype=torch.long).reshape(-1, degree)
    return Polynomial(constants, factors)


def _parameters(analysis: Analysis) -> list[tuple[str, Tensor]]:
    """Every parameter of the traced module once, by canonical name."""
    names = analysis.lineage.tensor_names
    return [(names.get(name, name), p) for name, p in analysis.module.named_parameters()]
