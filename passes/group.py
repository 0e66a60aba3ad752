"""Lineage -> units and groups: connected components, made rectangular, sorted by the axes they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from atofx.ir.groups import Group, Member, Role
from atofx.ir.lineage import LeafAxis, Lineage, Pin
from atofx.ir.values import Run, ids_of_runs
from atofx.ops.context import tensors_in

SINGLE_UNIT = "there is only one unit: removing it would leave nothing"
RAGGED = "a tensor mixes it with coordinates that are always kept, and would not stay rectangular without it"
NO_PRODUCER = "no parameter produces these channels, they are constant"


@dataclass(frozen=True, eq=False)
class Grouping:
    """Result of the group pass.

    Attributes:
        groups: all groups, prunable ones first in the order of the graph.
        group_of: int64 per id: index of its group, -1 for none.
        unit_of: int64 per id: index of its unit within the group.
    """

    groups: tuple[Group, ...]
    group_of: torch.Tensor
    unit_of: torch.Tensor


def form_groups(lineage: Lineage) -> Grouping:
    """Connected components of the couplings, tied until every tensor stays rectangular, sorted into groups."""
    component, count, ragged = rectangular_components(lineage)
    component_np = component.numpy()
    reasons: list[str] = []
    pin_of = np.full(count, -1, dtype=np.int64)
    for pin in (*lineage.pins, Pin(ragged, "", "", RAGGED)):
        labels = component_np[pin.ids.numpy()]
        pin_of[labels[pin_of[labels] < 0]] = len(reasons)
        reasons.append(pin.reason + (f" ({pin.op})" if pin.op else ""))
    axes = [axis for axis in lineage.leaves.values() if axis.name in lineage.tensor_names]
    used = np.zeros(lineage.num_ids, dtype=bool)
    for axis in axes:
        used[axis.start : axis.start + axis.size] = True
    used &= (lineage.produced | lineage.consumed).numpy()
    live = np.zeros(count, dtype=bool)
    live[component_np[used]] = True
    signature = _signatures(lineage, component_np, count, axes)
    return _build(lineage, component_np, count, pin_of, reasons, live, signature, axes)


def rectangular_components(lineage: Lineage) -> tuple[torch.Tensor, int, torch.Tensor]:
    """Tie ids until no tensor would become ragged.

    "Always kept" is one more node of the graph here; pinned ids and coordinates without a channel belong to it: a row
    of a tensor that holds such a coordinate stays whole.

    Returns:
        The component of every id, the number of components, and the ids that stay whole only for this reason.
    """
    kept = lineage.num_ids
    pinned = torch.cat([p.ids for p in lineage.pins]) if lineage.pins else torch.empty(0, dtype=torch.long)
    fixed = torch.stack([pinned, torch.full_like(pinned, kept)])
    ties = [torch.empty(2, 0, dtype=torch.long)]
    suspects = _suspects(lineage, kept)
    if not suspects:
        return *_components(lineage.edges, lineage.num_ids), ties[0].amin(0)
    labels, count = _components(torch.cat([lineage.edges, fixed], 1), kept + 1)
    while found := _ties_needed(suspects, labels, count):
        ties.extend(found)
        merged, count = _components(labels[torch.cat(found, 1)], count)
        labels = merged[labels]
    tied = torch.cat(ties, 1)
    real = (tied < kept).all(0)
    component, count = _components(torch.cat([lineage.edges, tied[:, real]], 1), lineage.num_ids)
    ragged = tied[:, ~real].amin(0)
    return component, count, ragged[ragged < kept]


def _suspects(lineage: Lineage, kept: int) -> list[torch.Tensor]:
    """The distinct id tensors that vary along several dimensions, coordinates without a channel as ``kept``."""
    found: dict[tuple[tuple[int, ...], bytes], torch.Tensor] = {}
    for nested in lineage.values.values():
        for value in tensors_in(nested):
            for layer in value.layers:
                if len(layer.dims) > 1:
                    ids = layer.ids.squeeze()
                    found.setdefault((tuple(ids.shape), ids.numpy().tobytes()), torch.where(ids >= 0, ids, kept))
    return list(found.values())


def _ties_needed(suspects: list[torch.Tensor], labels: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Couplings (2, E) of ids that make tensors rectangular, for as many tensors as do not bear on each other."""
    touched = torch.zeros(count, dtype=torch.bool)
    always = labels[-1]
    ties = []
    for ids in suspects:
        mine = labels[ids]
        if bool(touched[mine].any()):  # its labels are about to change: the next round judges it
            continue
        tie = _tie_needed(ids, mine)
        if tie is not None:
            touched[mine] = True
            touched[always] = False  # what joins "always kept" does not change what that means
            ties.append(tie)
    return ties


def _tie_needed(ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
    """Couplings (2, E) that make the ids vary along one dimension only, None if they do already.

    Among the dimensions that could stay, the one that leaves most units is chosen.
    """
    dims = [d for d, size in enumerate(ids.shape) if size > 1 and not bool((labels == labels.narrow(d, 0, 1)).all())]
    if len(dims) <= 1:
        return None
    best = max(dims, key=lambda d: labels.shape[d])
    rows, first = (t.movedim(best, 0).reshape(ids.shape[best], -1) for t in (ids, labels))
    different = first != first[:, :1]
    return torch.stack([rows[different], rows[:, :1].expand_as(rows)[different]])


def _components(edges: torch.Tensor, num_ids: int) -> tuple[torch.Tensor, int]:
    if num_ids == 0:
        return torch.empty(0, dtype=torch.long), 0
    left, right = edges.numpy()
    matrix = coo_matrix((np.ones(left.size, dtype=np.int8), (left, right)), shape=(num_ids, num_ids))
    count, labels = connected_components(matrix, directed=False)
    return torch.from_numpy(labels.astype(np.int64)), int(count)


def _signatures(
    lineage: Lineage, component: np.ndarray[Any, Any], count: int, axes: list[LeafAxis]
) -> np.ndarray[Any, Any]:
    """A hash per component of how often it appears in which axes and tensors: one random number per appearance, summed.

    Tensors count, not only axes, so that every dimension of every tensor is made of whole groups: since no group ends
    empty, no tensor does.
    """
    runs = dict.fromkeys((axis.start, axis.size) for axis in axes)
    places = []
    done: set[tuple[int, int]] = set()
    for nested in lineage.values.values():
        for value in tensors_in(nested):
            for layer in value.layers:
                labels = layer.labels
                if isinstance(labels, Run):
                    runs[labels.start, labels.size] = None
                    continue
                memory = (labels.data_ptr(), labels.numel())  # a view with as many elements holds the same ids
                if labels.is_contiguous():
                    if memory in done:
                        continue
                    done.add(memory)
                ids = labels.reshape(-1).numpy()
                places.append(ids if ids.min() >= 0 else ids[ids >= 0])
    starts, sizes = np.array(list(runs), dtype=np.int64).reshape(-1, 2).T
    counts = [*(p.size for p in places), *sizes.tolist()]
    places.append(ids_of_runs(starts, sizes))
    signature = np.zeros(count, dtype=np.uint64)
    numbers = np.random.default_rng(0).integers(1, 2**63, len(counts), dtype=np.uint64)
    np.add.at(signature, component[np.concatenate(places)], np.repeat(numbers, counts))
    return signature


def _build(
    lineage: Lineage,
    component: np.ndarray[Any, Any],
    count: int,
    pin_of: np.ndarray[Any, Any],
    reasons: list[str],
    live: np.ndarray[Any, Any],
    signature: np.ndarray[Any, Any],
    axes: list[LeafAxis],
) -> Grouping:
    first_id = np.empty(count, dtype=np.int64)
    first_id[component[::-1]] = np.arange(component.size)[::-1]  # of several, the last one written stays
    alive = np.flatnonzero(live)
    alive = alive[np.argsort(first_id[alive])]
    pinned = pin_of >= 0
    _, first_alive, inverse = np.unique(signature[alive] << 1 | pinned[alive], return_index=True, return_inverse=True)
    classes = first_alive.size
    class_first = first_id[alive[first_alive]]
    class_pinned = np.zeros(classes, dtype=bool)
    class_pinned[inverse] = pinned[alive]
    order = np.lexsort((class_first, class_pinned))
    rank = np.empty(classes, dtype=np.int64)
    rank[order] = np.arange(classes)
    group_of_component = np.full(count, -1, dtype=np.int64)
    group_of_component[alive] = rank[inverse]
    # units of a group, ordered by the first id they hold
    unit_of_component = np.full(count, -1, dtype=np.int64)
    sizes = np.zeros(classes, dtype=np.int64)
    sorted_alive = alive[np.argsort(group_of_component[alive], kind="stable")]
    groups_sorted = group_of_component[sorted_alive]
    if sorted_alive.size:
        starts = np.searchsorted(groups_sorted, np.arange(classes))
        unit_of_component[sorted_alive] = np.arange(sorted_alive.size) - starts[groups_sorted]
        sizes = np.bincount(groups_sorted, minlength=classes)
    group_of, unit_of = group_of_component[component], unit_of_component[component]
    members: list[list[Member]] = [[] for _ in range(classes)]
    produced, consumed = lineage.produced.numpy(), lineage.consumed.numpy()
    spans = [slice(axis.start, axis.start + axis.size) for axis in axes]
    lowest, highest = (_by_span(f, group_of, spans) for f in (np.minimum, np.maximum))
    made, cut = (_by_span(np.logical_or, flags, spans) for flags in (produced, consumed))
    for i, (axis, span) in enumerate(zip(axes, spans, strict=True)):
        if lowest[i] == highest[i] >= 0:
            role: Role = "consumer" if cut[i] and not made[i] else "producer"
            members[lowest[i]].append(Member(axis.name, axis.dim, role, torch.from_numpy(unit_of[span])))
        elif highest[i] >= 0:
            for index in np.unique(group_of[span][group_of[span] >= 0]).tolist():
                mine = group_of[span] == index
                role = "consumer" if consumed[span][mine].any() and not produced[span][mine].any() else "producer"
                unit = torch.from_numpy(np.where(mine, unit_of[span], -1))
                members[index].append(Member(axis.name, axis.dim, role, unit))
    names = _names(members)
    class_reason: list[str | None] = [None] * classes
    held = alive[pinned[alive]]
    for index, position in zip(*np.unique(group_of_component[held], return_index=True), strict=True):
        class_reason[index] = reasons[pin_of[held[position]]]
    groups = []
    for index in range(classes):
        reason = class_reason[index] or (SINGLE_UNIT if sizes[index] == 1 else None)
        if reason is None and all(m.role == "consumer" for m in members[index]):
            reason = NO_PRODUCER
        groups.append(Group(names[index], int(sizes[index]), reason is None, reason, tuple(members[index])))
    return Grouping(tuple(groups), torch.from_numpy(group_of), torch.from_numpy(unit_of))


def _by_span(function: np.ufunc, values: np.ndarray[Any, Any], spans: list[slice]) -> list[Any]:
    """``function`` reduced over each span of the values."""
    bounds = [bound for span in spans for bound in (span.start, span.stop)]
    found: list[Any] = function.reduceat(np.append(values, values[:1]), bounds)[::2].tolist() if bounds else []
    return found


def _names(members: list[list[Member]]) -> list[str]:
    """A readable, unique name per group: the module (or bare parameter) that produces its channels first."""
    names: list[str] = []
    taken: dict[str, int] = {}
    for axes in members:
        producer = next((m for m in axes if m.role == "producer"), axes[0])
        prefix, _, attribute = producer.name.rpartition(".")
        base = prefix if attribute in ("weight", "bias") and prefix else producer.name
        taken[base] = taken.get(base, 0) + 1
        names.append(base if taken[base] == 1 else f"{base}#{taken[base]}")
    return names
