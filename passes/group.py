"""Lineage -> units and groups: connected components, made rectangular, sorted by the axes they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from atofx.ir.groups import Group, Member, Role
from atofx.ir.lineage import LeafAxis, Lineage, Pin
from atofx.ir.values import Run, TensorValue, ids_of_runs
from atofx.ops.context import tensors_in
from atofx.passes.components import connected_components
from atofx.passes.pieces import Pieces, cut, runs_of, single_ids, with_runs_of

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
    axes = [axis for axis in lineage.leaves.values() if axis.name in lineage.tensor_names]
    places = _places(lineage, axes)
    parts, ragged = _rectangular(lineage, places)
    pieces, component, count = parts.pieces, parts.component, parts.count
    reasons: list[str] = []
    pin_of = np.full(count, -1, dtype=np.int64)
    for pin in (*lineage.pins, Pin(ragged, "", "", RAGGED)):
        labels = component[pieces.of_id[pin.ids.numpy()]]
        pin_of[labels[pin_of[labels] < 0]] = len(reasons)
        reasons.append(pin.reason + (f" ({pin.op})" if pin.op else ""))
    used = pieces.covered(_spans(axes)) & (lineage.produced | lineage.consumed).numpy()[pieces.starts]
    live = np.zeros(count, dtype=bool)
    live[component[used]] = True
    found = _sort(parts, live, pin_of >= 0, _signatures(places, parts))
    return _build(lineage, parts, found, pin_of, reasons, axes)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where ids lie.

    Attributes:
        runs: (2, R) first id and length of every distinct run that is an axis or labels a tensor.
        tensors: the ids of the other labels of tensors, without the coordinates of no channel.
        suspects: the distinct id tensors that vary along several dimensions, coordinates without a channel as the
            number of ids.
    """

    runs: np.ndarray[Any, Any]
    tensors: list[np.ndarray[Any, Any]]
    suspects: list[torch.Tensor]


@dataclass(frozen=True, eq=False)
class _Parts:
    """Ids in pieces, and the pieces in connected components.

    Attributes:
        pieces: of ids that are treated alike; a component holds as many units as each of its pieces holds ids.
        component: by piece.
        count: how many components there are.
    """

    pieces: Pieces
    component: np.ndarray[Any, Any]
    count: int


def _places(lineage: Lineage, axes: list[LeafAxis]) -> _Places:
    """The places of a lineage, each once."""
    runs = dict.fromkeys([(axis.start, axis.size) for axis in axes])
    tensors = []
    suspects = []
    done: set[tuple[int, int]] = set()
    for nested in lineage.values.values():
        for value in (nested,) if isinstance(nested, TensorValue) else tensors_in(nested):
            for layer in value.layers:
                labels = layer.labels
                if isinstance(labels, Run):
                    runs[labels.start, labels.size] = None
                    continue
                if len(layer.dims) > 1:
                    suspects.append(labels)
                memory = (labels.data_ptr(), labels.numel())  # a view with as many elements holds the same ids
                if labels.is_contiguous():
                    if memory in done:
                        continue
                    done.add(memory)
                ids = labels.reshape(-1).numpy()
                tensors.append(ids if ids.min() >= 0 else ids[ids >= 0])
    array = np.array(list(runs), dtype=np.int64).reshape(-1, 2).T
    return _Places(array, tensors, _distinct(suspects, lineage.num_ids))


def _distinct(suspects: list[torch.Tensor], kept: int) -> list[torch.Tensor]:
    """The distinct ones of some id tensors, coordinates without a channel as ``kept``."""
    found: dict[tuple[tuple[int, ...], bytes], torch.Tensor] = {}
    for labels in suspects:
        ids = labels.squeeze()
        found.setdefault((tuple(ids.shape), ids.numpy().tobytes()), torch.where(ids >= 0, ids, kept))
    return list(found.values())


def _rectangular(lineage: Lineage, places: _Places) -> tuple[_Parts, torch.Tensor]:
    """Connected components such that no tensor becomes ragged, and the ids that stay whole only for this reason.

    Only tensors that vary along several dimensions may become so; where there are any, ids are looked at one by one.
    """
    if places.suspects:
        tied, count, ragged = _rectangular_components(lineage, places.suspects)
        return _Parts(single_ids(lineage.num_ids), tied.numpy(), count), ragged
    ids = (*places.tensors, *(pin.ids.numpy() for pin in lineage.pins))
    runs = np.concatenate([places.runs, runs_of(ids)], 1)
    flags = (lineage.produced.numpy(), lineage.consumed.numpy())
    couplings = with_runs_of(lineage.edges, lineage.couplings)
    pieces = cut(lineage.num_ids, runs, flags, couplings)
    component, count = connected_components(pieces.tied(couplings), pieces.starts.size)
    return _Parts(pieces, component, count), torch.empty(0, dtype=torch.long)


def _rectangular_components(lineage: Lineage, suspects: list[torch.Tensor]) -> tuple[torch.Tensor, int, torch.Tensor]:
    """Tie ids until no tensor would become ragged.

    "Always kept" is one more node of the graph here; pinned ids and coordinates without a channel belong to it: a row
    of a tensor that holds such a coordinate stays whole.

    Returns:
        The component of every id, the number of components, and the ids that stay whole only for this reason.
    """
    kept = lineage.num_ids
    left, right, sizes = lineage.couplings
    runs = np.stack([ids_of_runs(left, sizes), ids_of_runs(right, sizes)])
    found_components, count = connected_components(np.concatenate([runs, lineage.edges], 1), kept)
    coupled = torch.from_numpy(found_components)
    nodes = torch.cat([coupled, torch.tensor([count])])
    pinned = coupled[torch.cat([pin.ids for pin in lineage.pins])] if lineage.pins else coupled[:0]
    labels, count = _merged(nodes, torch.stack([pinned, torch.full_like(pinned, count)]), count + 1)
    ties = [torch.empty(2, 0, dtype=torch.long)]
    while found := _ties_needed(suspects, labels, count):
        ties.extend(found)
        labels, count = _merged(labels, labels[torch.cat(found, 1)], count)
    tied = torch.cat(ties, 1)
    real = (tied < kept).all(0)
    component, count = _merged(coupled, coupled[tied[:, real]], int(nodes[-1]))
    ragged = tied[:, ~real].amin(0)
    return component, count, ragged[ragged < kept]


def _merged(labels: torch.Tensor, edges: torch.Tensor, count: int) -> tuple[torch.Tensor, int]:
    """Labels after some of ``count`` became one, and how many are left."""
    merged, left = connected_components(edges.numpy(), count)
    return torch.from_numpy(merged)[labels], left


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


def _spans(axes: list[LeafAxis]) -> np.ndarray[Any, Any]:
    """(2, A): first id and length of every axis."""
    spans = [(axis.start, axis.size) for axis in axes]
    return np.transpose(np.array(spans, dtype=np.int64).reshape(-1, 2))


def _signatures(places: _Places, parts: _Parts) -> np.ndarray[Any, Any]:
    """A hash per component of how often it appears in which axes and tensors: one random number per appearance, summed.

    Tensors count, not only axes, so that every dimension of every tensor is made of whole groups: since no group ends
    empty, no tensor does.
    """
    inside, counts = parts.pieces.of_runs(*places.runs)
    found = [parts.pieces.of_places(ids) for ids in places.tensors]
    times = np.concatenate([counts, np.array([pieces.size for pieces in found], dtype=np.int64)])
    numbers = _random_numbers(times.size.bit_length())[: times.size]
    signature = np.zeros(parts.count, dtype=np.uint64)
    np.add.at(signature, parts.component[np.concatenate([inside, *found])], np.repeat(numbers, times))
    return signature


@cache
def _random_numbers(bits: int) -> np.ndarray[Any, Any]:
    """The same 2 ** ``bits`` numbers each time: making them takes longer than what they are for in a small model."""
    numbers: np.ndarray[Any, Any] = np.random.default_rng(0).integers(1, 2**63, 2**bits, dtype=np.uint64)
    return numbers


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Components sorted into groups.

    Attributes:
        sizes: how many units each group has.
        group: by component: index of its group, -1 for none.
        unit: by component: its first unit within the group, -1 for none.
        order: the components that are in groups, group after group, in the order of their units.
    """

    sizes: np.ndarray[Any, Any]
    group: np.ndarray[Any, Any]
    unit: np.ndarray[Any, Any]
    order: np.ndarray[Any, Any]


def _sort(
    parts: _Parts, live: np.ndarray[Any, Any], pinned: np.ndarray[Any, Any], signature: np.ndarray[Any, Any]
) -> _Sorted:
    """Live components of one signature are one group; groups, and units within them, by the first id they hold.

    Pinned components are in groups of their own, which come last.
    """
    first_piece = np.empty(parts.count, dtype=np.int64)
    first_piece[parts.component[::-1]] = np.arange(parts.component.size)[::-1]  # of several, the last one written stays
    alive = np.flatnonzero(live)
    alive = alive[np.argsort(first_piece[alive])]
    keys = signature[alive] << 1 | pinned[alive]
    _, first_alive, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(first_alive.size, dtype=np.int64)
    rank[np.lexsort((first_alive, pinned[alive[first_alive]]))] = np.arange(first_alive.size)
    groups = rank[inverse]
    order = np.argsort(groups, kind="stable")
    alive, groups = alive[order], groups[order]
    width = parts.pieces.sizes[first_piece[alive]]
    sizes = np.zeros(first_alive.size, dtype=np.int64)
    np.add.at(sizes, groups, width)
    group, unit = np.full((2, parts.count), -1, dtype=np.int64)
    group[alive] = groups
    unit[alive] = (width.cumsum() - width) - (sizes.cumsum() - sizes)[groups]
    return _Sorted(sizes, group, unit, alive)


def _build(
    lineage: Lineage,
    parts: _Parts,
    found: _Sorted,
    pin_of: np.ndarray[Any, Any],
    reasons: list[str],
    axes: list[LeafAxis],
) -> Grouping:
    """The groups, with names, reasons and members.

    Args:
        lineage: what they are groups of.
        parts: its ids.
        found: the groups.
        pin_of: by component: which reason it is pinned for, -1 for none.
        reasons: all reasons.
        axes: what may be a member.
    """
    by_piece = found.group[parts.component]
    group_of = np.repeat(by_piece, parts.pieces.sizes)
    first_unit = found.unit[parts.component] - parts.pieces.starts
    unit_of = np.repeat(first_unit, parts.pieces.sizes) + np.arange(lineage.num_ids)
    unit_of[group_of < 0] = -1
    members = _members(lineage, parts.pieces, by_piece, group_of, unit_of, axes, found.sizes.size)
    class_reason: list[str | None] = [None] * len(members)
    held = found.order[pin_of[found.order] >= 0]
    for index, position in zip(*np.unique(found.group[held], return_index=True), strict=True):
        class_reason[index] = reasons[pin_of[held[position]]]
    groups = []
    for name, size, reason, own in zip(_names(members), found.sizes.tolist(), class_reason, members, strict=True):
        if reason is None and size == 1:
            reason = SINGLE_UNIT
        if reason is None and all(m.role == "consumer" for m in own):
            reason = NO_PRODUCER
        groups.append(Group(name, size, reason is None, reason, tuple(own)))
    return Grouping(tuple(groups), torch.from_numpy(group_of), torch.from_numpy(unit_of))


def _members(
    lineage: Lineage,
    pieces: Pieces,
    by_piece: np.ndarray[Any, Any],
    group_of: np.ndarray[Any, Any],
    unit_of: np.ndarray[Any, Any],
    axes: list[LeafAxis],
    count: int,
) -> list[list[Member]]:
    """The axes that each of ``count`` groups reaches, from the group of every piece, and group and unit of every id."""
    members: list[list[Member]] = [[] for _ in range(count)]
    produced, consumed = lineage.produced.numpy(), lineage.consumed.numpy()
    starts, sizes = _spans(axes)
    spans = np.stack(pieces.bounds(starts, sizes))
    lowest, highest = (_by_span(f, by_piece, spans) for f in (np.minimum, np.maximum))
    made, cut = (_by_span(np.logical_or, flags[pieces.starts], spans) for flags in (produced, consumed))
    whole = _cut_out(torch.from_numpy(unit_of), starts, sizes)
    for i, (axis, units) in enumerate(zip(axes, whole, strict=True)):
        if lowest[i] == highest[i] >= 0:
            role: Role = "consumer" if cut[i] and not made[i] else "producer"
            members[lowest[i]].append(Member(axis.name, axis.dim, role, units))
        elif highest[i] >= 0:
            span = slice(axis.start, axis.start + axis.size)
            for index in np.unique(group_of[span][group_of[span] >= 0]).tolist():
                mine = group_of[span] == index
                role = "consumer" if consumed[span][mine].any() and not produced[span][mine].any() else "producer"
                unit = torch.from_numpy(np.where(mine, unit_of[span], -1))
                members[index].append(Member(axis.name, axis.dim, role, unit))
    return members


def _by_span(function: np.ufunc, values: np.ndarray[Any, Any], spans: np.ndarray[Any, Any]) -> list[Any]:
    """``function`` reduced over each span, (2, A) starts and stops, of the values."""
    if not spans.size:
        return []
    found: list[Any] = function.reduceat(np.append(values, values[:1]), spans.T.reshape(-1))[::2].tolist()
    return found


def _cut_out(values: torch.Tensor, starts: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> Sequence[torch.Tensor]:
    """The spans of a vector that begin at ``starts``, which ascend: one split is faster than many slices."""
    bounds = np.stack([starts, starts + sizes], 1).reshape(-1)
    lengths = np.diff(bounds, prepend=0, append=values.numel())
    pieces: Sequence[torch.Tensor] = values.split(lengths.tolist())
    return pieces[1::2]


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
