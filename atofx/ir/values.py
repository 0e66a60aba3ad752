"""Abstract values: a tensor's shape together with the channels its coordinates belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

#: The id of a coordinate that belongs to no channel: it is always kept.
NONE = -1
#: The value at rest of what may be anything then.
ANYTHING = math.nan


@dataclass(frozen=True, eq=False)
class Layer:
    """One independent labelling of a tensor's elements with channel ids.

    A tensor carries several layers when several of its dimensions are channels (a weight matrix has two). An element
    disappears when the unit of any of its layers does.

    Attributes:
        ids: int64, as many dimensions as the tensor; size 1 along every dimension the id does not vary with.
        rest: float64, the shape of ``ids``: the element's value where its unit's producers are zero, :data:`ANYTHING`
            where that is not one number (it is not known, or depends on something else).
    """

    ids: torch.Tensor
    rest: torch.Tensor

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The dimensions along which the id varies."""
        return tuple(d for d, size in enumerate(self.ids.shape) if size > 1)

    @cached_property
    def clean(self) -> bool:
        """Whether every element is zero where its unit's producers are."""
        return not bool(self.rest.any())

    @property
    def nonzero(self) -> torch.Tensor:
        """Bool, the shape of ``ids``: where the element is *not* zero although its unit's producers are."""
        return self.rest != 0

    def with_rest(self, value: float | torch.Tensor) -> Layer:
        """The same ids with other values at rest."""
        rest = torch.as_tensor(value, dtype=torch.float64)
        return replace(self, rest=rest.expand(self.ids.shape))

    def only_zeros(self) -> Layer:
        """The same with anything where the value at rest is another number than zero."""
        return self if self.clean else self.with_rest(zero_or_anything(self.rest == 0))


@dataclass(frozen=True, eq=False)
class TensorValue:
    """What the analysis knows of one tensor in the graph.

    Attributes:
        meta: tensor on the meta device: shape, dtype and (for aliasing) storage.
        layers: labellings; no two vary along the same dimension.
        moved_leaf: the tensor is a parameter, buffer or constant that was only moved so far (no arithmetic).
    """

    meta: torch.Tensor
    layers: tuple[Layer, ...] = field(default=())
    moved_leaf: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape at the example input."""
        return tuple(self.meta.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.meta.dim()

    def layer_on(self, dim: int) -> Layer | None:
        """The layer that varies along ``dim``, if any."""
        for layer in self.layers:
            if layer.ids.shape[dim] > 1:
                return layer
        return None


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
