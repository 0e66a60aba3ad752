"""Abstract values: a tensor's shape together with the channels its coordinates belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from atofx.ir.record import record

#: The id of a coordinate that belongs to no channel: it is always kept.
NONE = -1
#: The value at rest of what may be anything then.
ANYTHING = math.nan


class Run(NamedTuple):
    """The ids ``start .. start + size - 1`` along one dimension: what most labels are, without a tensor.

    Attributes:
        start: the first id.
        dim: the dimension they lie along.
        shape: of the tensor they stand for: 1 along every other dimension.
    """

    start: int
    dim: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.shape[self.dim]

    def along(self, dim: int, ndim: int) -> Run:
        """The same ids along another dimension."""
        return Run(self.start, dim, (1,) * dim + (self.shape[self.dim],) + (1,) * (ndim - dim - 1))

    def tensor(self) -> torch.Tensor:
        """The ids as a tensor."""
        return torch.arange(self.start, self.start + self.size).reshape(self.shape)


def ids_of_runs(starts: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The ids of runs that begin at ``starts``, one run after the other."""
    ends = sizes.cumsum()
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(ends[-1] if ends.size else 0)


def runs_in(*rows: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where, in rows of equally many numbers, runs begin that are consecutive in every row, and how long they are."""
    begins = np.zeros(rows[0].size, dtype=bool)
    begins[:1] = True
    for row in rows:
        begins[1:] |= row[1:] - row[:-1] != 1
    places = np.flatnonzero(begins)
    return places, np.diff(places, append=begins.size)


#: Channel ids by element: int64 with size 1 along every dimension the id does not vary with, or a run.
Labels = torch.Tensor | Run


def as_tensor(labels: Labels) -> torch.Tensor:
    """Labels as a tensor."""
    return labels.tensor() if isinstance(labels, Run) else labels


@record
class Layer:
    """One independent labelling of a tensor's elements with channel ids.

    A tensor carries several layers when several of its dimensions are channels (a weight matrix has two). An element
    disappears when the unit of any of its layers does.

    Attributes:
        labels: the channel ids, of as many dimensions as the tensor.
        at_rest: the elements' value where their unit's producers are zero, :data:`ANYTHING` where that is not one
            number (it is not known, or depends on something else). One number where all have the same, as most
            layers do, else a float64 tensor of the shape of ``ids``.
    """

    labels: Labels
    at_rest: float | torch.Tensor

    @property
    def ids(self) -> torch.Tensor:
        """:attr:`labels` as a tensor."""
        return as_tensor(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of :attr:`ids`."""
        return self.labels.shape

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions along which the id varies."""
        labels = self.labels
        if isinstance(labels, Run):
            return (labels.dim,) if labels.shape[labels.dim] > 1 else ()
        return tuple([d for d, size in enumerate(labels.shape) if size > 1])

    def has_neighbours_alike(self, dim: int) -> bool:
        """Whether neighbours along ``dim`` belong to one channel, as where channels and pixels are flattened."""
        labels = self.labels
        if isinstance(labels, Run) or labels.shape[dim] == 1:
            return False
        return bool((labels.diff(dim=dim) == 0).any())

    def occurrences(self, dim: int) -> int | None:
        """How often every channel occurs along ``dim``, None where that differs or some places belong to none.

        Where it is not 1, the length of the dimension may depend on the size of the image.
        """
        labels = self.labels
        if isinstance(labels, Run):
            return 1
        ids = labels.reshape(-1)
        if ids.numel() != labels.shape[dim] or int(ids.min()) < 0:
            return None
        counts = torch.unique(ids, return_counts=True)[1]
        return int(counts[0]) if bool((counts == counts[0]).all()) else None

    @property
    def repeats(self) -> bool:
        """Whether a channel lies in more than one place."""
        labels = self.labels
        if isinstance(labels, Run):
            return False
        known = labels[labels >= 0]
        return bool(torch.unique(known).numel() != known.numel())

    @property
    def scattered(self) -> bool:
        """Whether a channel lies in several places that are not one run, equally long for all channels.

        Which places those are depends on the sizes of what lies between them. Whole rows that repeat along the first
        dimension, as where samples and channels are flattened together, are taken for one.
        """
        labels = self.labels
        if isinstance(labels, Run):
            return False
        flat = labels.reshape(-1)
        length = period(flat) if self.dims == (0,) else flat.numel()
        if torch.unique(flat[:length]).numel() == length:
            return False
        return length < flat.numel() or len(self.dims) != 1 or run_length(flat) is None

    @property
    def clean(self) -> bool:
        """Whether every element is zero where its unit's producers are."""
        rest = self.at_rest
        return rest == 0 if isinstance(rest, float) else not bool(rest.any())

    @property
    def rest(self) -> torch.Tensor:
        """:attr:`at_rest` as a float64 tensor of the shape of ``ids``."""
        rest = self.at_rest
        return torch.tensor(rest, dtype=torch.float64).expand(self.shape) if isinstance(rest, float) else rest

    @property
    def nonzero(self) -> torch.Tensor:
        """Bool, the shape of ``ids``: where the element is *not* zero although its unit's producers are."""
        return self.rest != 0

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Layer:
        """The layer with its elements elsewhere: ``move`` is applied to the ids, and to the values at rest."""
        rest = self.at_rest
        return Layer(move(self.ids), rest if isinstance(rest, float) else move(rest))

    def with_rest(self, value: float | torch.Tensor) -> Layer:
        """The same ids with other values at rest."""
        return Layer(self.labels, value if isinstance(value, float) else value.expand(self.shape))

    def reshaped(self, shape: Sequence[int]) -> Layer:
        """The layer with dimensions of size 1 added or taken away: ``shape`` has the others in the same order."""
        labels = self.labels
        if isinstance(labels, Run) and labels.size > 1:
            moved: Labels = Run(labels.start, list(shape).index(labels.size), tuple(shape))
        else:
            moved = as_tensor(labels).reshape(tuple(shape))
        return Layer(moved, self.at_rest if isinstance(self.at_rest, float) else self.at_rest.reshape(tuple(shape)))

    def only_zeros(self) -> Layer:
        """The same with anything where the value at rest is another number than zero."""
        return self if self.clean else self.with_rest(zero_or_anything(self.rest == 0))


@record
class TensorValue:
    """What the analysis knows of one tensor in the graph.

    Attributes:
        meta: tensor on the meta device: shape, dtype and (for aliasing) storage.
        layers: labellings; no two vary along the same dimension.
        moved_leaf: the tensor is a parameter, buffer or constant that was only moved so far (no arithmetic).
        fill: the number that every element is, if the model makes the tensor of one.
    """

    meta: torch.Tensor
    layers: tuple[Layer, ...] = ()
    moved_leaf: bool = False
    fill: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape at the example input."""
        return tuple(self.meta.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.meta.dim()

    def with_layers(self, layers: Iterable[Layer]) -> TensorValue:
        """The same tensor with other labellings."""
        return TensorValue(self.meta, tuple(layers), self.moved_leaf)

    def layer_on(self, dim: int) -> Layer | None:
        """The layer that varies along ``dim``, if any."""
        for layer in self.layers:
            if layer.shape[dim] > 1:
                return layer
        return None


def run_length(ids: torch.Tensor) -> int | None:
    """How often each id occurs side by side; None if one occurs elsewhere too, more often, or is :data:`NONE`."""
    counts = torch.unique(ids, return_counts=True)[1]
    length = int(counts[0])
    if int(ids.min()) < 0 or not bool((counts == length).all()):
        return None
    runs = ids.reshape(-1, length)
    return length if bool((runs == runs[:, :1]).all()) else None


def period(ids: torch.Tensor) -> int:
    """After how many of them the ids begin again, if they do so to the end."""
    for place in (ids == ids[0]).nonzero().flatten().tolist():
        if place and ids.numel() % place == 0 and bool((ids.reshape(-1, place) == ids[:place]).all()):
            return int(place)
    return ids.numel()


def zero_or_anything(zero: torch.Tensor) -> torch.Tensor:
    """Values at rest: zero where it is True, else :data:`ANYTHING`."""
    return torch.where(zero, 0.0, ANYTHING).double()


def agreed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Values at rest where both say the same, else :data:`ANYTHING`."""
    return torch.where(a == b, a, ANYTHING)


def unlabelled(value: Any) -> Any:
    """A (nested) result with every tensor as a value whose coordinates belong to no channel."""
    if isinstance(value, torch.Tensor):
        return TensorValue(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, (tuple, list)):
        items = [unlabelled(v) for v in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {k: unlabelled(v) for k, v in value.items()}
    return value


def holds(value: Any, kind: type) -> bool:
    """Whether ``value`` is of that kind or holds, nested in containers, something that is."""
    if isinstance(value, kind):
        return True
    if isinstance(value, (tuple, list)):
        return any(holds(v, kind) for v in value)
    if isinstance(value, dict):
        return any(holds(v, kind) for v in value.values())
    return False
