"""What the lineage pass hands on: the ids, how they are coupled, what is pinned and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from atofx.ir.record import record
from atofx.ir.values import Labels, Layer


@dataclass(frozen=True)
class Pin:
    """Why some channels cannot be removed.

    Attributes:
        ids: the channel ids concerned.
        node: name of the graph node where it happened ("" if nowhere in particular).
        op: readable name of the operation.
        reason: one sentence a user can act on.
        unknown_op: True if no record describes the operation.
    """

    ids: torch.Tensor = field(repr=False)
    node: str
    op: str
    reason: str
    unknown_op: bool = False


@record
class LeafAxis:
    """One axis of a parameter, buffer or constant: ids ``start .. start + size - 1``."""

    name: str
    dim: int
    start: int
    size: int


@record
class GatePoint:
    """A place where a gate belongs: ``user`` mixes the channels of ``value`` that ``layer`` labels.

    Attributes:
        user: the node before which it belongs.
        value: what it multiplies.
        layer: where in that the channels are.
        fixed: whether another batch puts them elsewhere.
    """

    user: fx.Node
    value: fx.Node
    layer: Layer
    fixed: bool = False


@dataclass(frozen=True, eq=False)
class Fold:
    """The bias of the module that ``node`` calls takes up channels of its input that are constant once dropped.

    Attributes:
        node: the only call of the module.
        ids: int64 per input channel.
        constants: float64 per input channel: its value where the channel's unit is dropped; 0 for nothing to take up.
    """

    node: fx.Node
    ids: torch.Tensor
    constants: torch.Tensor


@record
class CostFactor:
    """``share`` (numerator, denominator) of a node's dense FLOPs scales with the kept part of each extent's ids."""

    node: fx.Node
    extents: tuple[Labels, ...]
    share: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False)
class Lineage:
    """Result of the lineage pass.

    Attributes:
        values: node -> value: a :class:`~atofx.ir.values.TensorValue`, a plain Python value, or containers of them.
        leaves: every labelled axis of parameters, buffers and constants, by (name, dim).
        couplings: int64 (3, R): runs of ids each of which is one unit with one of another run, in order: the first id
            of both, and how many.
        edges: int64 (2, E): other pairs of ids that are one unit.
        pins: why ids cannot be removed.
        produced, consumed: bool per id: how axes of leaves are used.
        gate_points: where gates belong.
        folds: constants that biases take up.
        costs: how each node's FLOPs scale.
        modes: granularity decisions taken, by node name (for explanation).
        tensor_names: canonical name of every parameter and buffer, by any of its names.
        sized: bool per id: without it, the rest is right for inputs of the example's sizes only (but for the batch).
        batched: bool per id: for the example's batch size only, too.
        among: bool per id: somewhere it is flattened together with the batch, of which the example has one sample.
    """

    values: dict[fx.Node, Any]
    leaves: dict[tuple[str, int], LeafAxis]
    num_ids: int
    couplings: np.ndarray[Any, Any]
    edges: np.ndarray[Any, Any]
    pins: tuple[Pin, ...]
    produced: torch.Tensor
    consumed: torch.Tensor
    gate_points: tuple[GatePoint, ...]
    folds: tuple[Fold, ...]
    costs: tuple[CostFactor, ...]
    tensor_names: dict[str, str]
    sized: torch.Tensor
    batched: torch.Tensor
    among: torch.Tensor
