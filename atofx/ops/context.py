"""The state of one lineage run: hands out ids, collects couplings, pins, gate points and cost factors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from atofx.ir.granularity import HeadsOrDims
from atofx.ir.lineage import CostFactor, Fold, GatePoint, LeafAxis, Pin
from atofx.ir.values import ANYTHING, NONE, Labels, Layer, Run, TensorValue, agreed, as_tensor
from atofx.ops.layers import align_layer, compress, fresh_layer

#: Why kernel dimensions of weights are kept.
KERNEL = "kernel dimensions are not channels"


class LineageContext:
    """What an op's lineage function may do. One instance lives for one run of the lineage pass.

    Attributes:
        node: the graph node being interpreted.
        module: the leaf module it calls, if it calls one.
        out: the node's result on the meta device (a tensor, or nested containers of tensors).
        padded_with_least: by the node of a padding with minus infinity: the padded value, and what it was before. A
            maximum over windows that each hold an element of that does not see the padding.
        values: what is known of the nodes before this one.
        longer: the dimensions of a node that are longer for a larger image, None where that cannot be told.
        more: the same for a larger batch.
        named_sizes: by node, the dimensions whose lengths the model names: they are the same for every image.
    """

    def __init__(
        self,
        tensors: dict[str, torch.Tensor],
        granularity_at: Callable[[fx.Node], HeadsOrDims],
        values: Mapping[fx.Node, Any],
        longer: Callable[[fx.Node], frozenset[int] | None],
        more: Callable[[fx.Node], frozenset[int] | None],
    ) -> None:
        self.node: fx.Node
        self.module: nn.Module | None = None
        self.out: Any = None
        self.op_name = ""
        self._remembered: dict[Any, dict[Any, float]] = {}
        self._tensors = tensors
        self._granularity_at = granularity_at
        self._canonical: dict[int, str] = {}
        self.tensor_names = {name: self._canonical.setdefault(id(t), name) for name, t in tensors.items()}
        self.leaves: dict[tuple[str, int], LeafAxis] = {}
        self.num_ids = 0
        self._pairs: list[tuple[int, int, int]] = []
        self._left: list[torch.Tensor] = []
        self._right: list[torch.Tensor] = []
        self.pins: list[Pin] = []
        self._produced: list[Labels] = []
        self._consumed: list[Labels] = []
        self._divisors: list[Labels] = []
        self.values = values
        self.longer = longer
        self.more = more
        self.named_sizes: dict[fx.Node, frozenset[int]] = {}
        self._between: set[int] = set()
        self._among: list[Labels] = []
        self._among_ids: set[int] = set()
        self._sized: list[Labels] = []
        self._batched: list[Labels] = []
        self.gate_points: list[GatePoint] = []
        self.folds: list[Fold] = []
        self._readers: dict[str, set[fx.Node]] = defaultdict(set)
        self._no_channels: dict[str, set[int]] = defaultdict(set)
        self.costs: list[CostFactor] = []
        self.padded_with_least: dict[fx.Node, tuple[TensorValue, TensorValue]] = {}

    @property
    def granularity(self) -> HeadsOrDims:
        """Which units attention is pruned in at the present node."""
        return self._granularity_at(self.node)

    # ---------------------------------------------------------------- ids

    def fresh(self, size: int, dim: int, ndim: int, rest: float = 0.0) -> Layer:
        """A layer of ``size`` new ids along ``dim``."""
        layer = fresh_layer(self.num_ids, size, dim, ndim, rest)
        self.num_ids += size
        return layer

    def vector(self, name: str, dim: int, ndim: int) -> TensorValue:
        """The value of a parameter or buffer of one dimension, along ``dim`` of ``ndim``."""
        canonical, tensor = self._read(name)
        meta, shape = blank_vector(tensor.shape[0], dim, ndim, tensor.dtype)
        size = shape[dim]
        layers = () if size <= 1 else (Layer(Run(self._axis(canonical, 0, size).start, dim, shape), 0.0),)
        return TensorValue(meta, layers, moved_leaf=True)

    def _read(self, name: str) -> tuple[str, torch.Tensor]:
        """The canonical name of a parameter or buffer, and the tensor; this node is one of its readers from now on."""
        canonical = self.tensor_names[name]
        self._readers[canonical].add(self.node)
        return canonical, self._tensors[canonical]

    def _axis(self, canonical: str, dim: int, size: int) -> LeafAxis:
        axis = self.leaves.get((canonical, dim))
        if axis is None:
            axis = self.leaves[canonical, dim] = LeafAxis(canonical, dim, self.num_ids, size)
            self.num_ids += size
        return axis

    def leaf(self, name: str, dims: Sequence[int] | None = None) -> TensorValue:
        """The value of a parameter or buffer: one layer per dimension longer than 1 (of ``dims``, all if None).

        Other dimensions than ``dims`` are always kept.
        """
        canonical, tensor = self._read(name)
        layers = []
        if dims is not None:
            self._no_channels[canonical].update(set(range(tensor.dim())) - set(dims))
        for dim in range(tensor.dim()) if dims is None else dims:
            size = tensor.shape[dim]
            if size > 1:
                layers.append(fresh_layer(self._axis(canonical, dim, size).start, size, dim, tensor.dim()))
        return TensorValue(blank(tensor.size(), tensor.stride(), tensor.dtype), tuple(layers), moved_leaf=True)

    def module_leaf(self, attribute: str, dims: Sequence[int] | None = None) -> TensorValue | None:
        """The value of the called module's parameter or buffer, None if it has none."""
        return self.leaf(f"{self.node.target}.{attribute}", dims) if self._owns(attribute) else None

    def module_vectors(self, attributes: Sequence[str], dim: int, ndim: int) -> list[TensorValue | None]:
        """:meth:`module_leaf` of several that have one dimension, along ``dim`` of ``ndim``."""
        module = f"{self.node.target}."
        return [self.vector(module + a, dim, ndim) if self._owns(a) else None for a in attributes]

    def _owns(self, attribute: str) -> bool:
        """Whether the called module has such a parameter or buffer."""
        module = self.module
        if module is None:
            return False
        if module._parameters.get(attribute) is not None or module._buffers.get(attribute) is not None:
            return True
        return getattr(module, attribute, None) is not None

    def constant(self, meta: torch.Tensor, fill: float | None = None) -> TensorValue:
        """A constant created in the graph: every long dimension gets ids that join whatever they meet.

        Args:
            meta: the constant on the meta device.
            fill: the number that all of it is.
        """
        rest = 0.0 if fill == 0 else ANYTHING
        layers = [self.fresh(size, dim, meta.dim(), rest) for dim, size in enumerate(meta.shape) if 1 < size <= 65536]
        return TensorValue(meta, tuple(layers), moved_leaf=True, fill=fill)

    # ---------------------------------------------------------------- couplings

    def unify(self, a: torch.Tensor, b: torch.Tensor, why: str) -> torch.Tensor:
        """Couple ids element by element (broadcasting); an id that meets NONE is pinned, with ``why`` as the reason.

        Returns:
            The ids of ``a``, and those of ``b`` where ``a`` has none.
        """
        if a.shape != b.shape:
            a, b = torch.broadcast_tensors(a, b)
        if a.numel() and int(torch.minimum(a, b).min()) >= 0:
            self._left.append(a.reshape(-1))
            self._right.append(b.reshape(-1))
            return a
        known = (a >= 0) & (b >= 0)
        lonely = torch.cat([a[(a >= 0) & (b < 0)], b[(b >= 0) & (a < 0)]])
        if lonely.numel():
            self.pin_ids(lonely, why)
        self._left.append(a[known])
        self._right.append(b[known])
        return torch.where(a >= 0, a, b)

    def couple(self, labels: Sequence[Labels], why: str) -> Labels:
        """:meth:`unify` for several labels of one shape."""
        first = labels[0]
        runs = [run for run in labels if isinstance(run, Run)]
        if isinstance(first, Run) and len(runs) == len(labels):
            self._pairs.extend((first.start, other.start, first.size) for other in runs[1:] if other != first)
            return first
        return self._unify_all([as_tensor(one) for one in labels], why)

    def _unify_all(self, ids: Sequence[torch.Tensor], why: str) -> torch.Tensor:
        first, *others = ids
        if len(others) > 1:
            rows = torch.stack([first, *others]).reshape(len(ids), -1)
            if rows.numel() and int(rows.min()) >= 0:
                self._left.append(rows[:1].expand(len(others), -1).reshape(-1))
                self._right.append(rows[1:].reshape(-1))
                return first
        for other in others:
            first = self.unify(first, other, why)
        return first

    def tie(self, layer: Layer, dims: Iterable[int]) -> Layer:
        """Couple all ids that differ only along ``dims``; the result varies along the other dimensions."""
        dims = [d for d in dims if layer.shape[d] > 1]
        if not dims:
            return layer
        ids, rest = layer.ids, layer.at_rest
        for dim in dims:
            first = ids.narrow(dim, 0, 1)
            self.unify(ids, first, "is coupled to coordinates that are always kept")
            ids = torch.where((ids < 0).any(dim, keepdim=True), NONE, first)
            rest = rest if isinstance(rest, float) else _common(rest, dim)
        return Layer(ids, rest)

    def confine(self, value: TensorValue, dims: Iterable[int], why: str) -> TensorValue:
        """Make every layer vary along exactly one of ``dims``: tie the rest, pin layers that vary along none."""
        allowed = {d % value.ndim for d in dims}
        if all(len(layer.dims) == 1 and layer.dims[0] in allowed for layer in value.layers):
            return value
        layers = []
        for layer in value.layers:
            inside = [d for d in layer.dims if d in allowed]
            if not inside:
                self.pin(layer, why)
                continue
            best = max(inside, key=lambda d: layer.shape[d])
            layers.append(self.tie(layer, [d for d in layer.dims if d != best]))
        return self.value(value.meta, layers, moved_leaf=value.moved_leaf)

    # ---------------------------------------------------------------- pins

    def pin_ids(self, ids: torch.Tensor, reason: str, *, unknown_op: bool = False) -> None:
        """Say that these ids can never be removed, and why."""
        ids = compress(ids).reshape(-1)
        ids = ids[ids >= 0]
        if ids.numel():
            self.pins.append(Pin(ids, self.node.name, self.op_name, reason, unknown_op))

    def pin(self, layer: Layer, reason: str) -> None:
        """:meth:`pin_ids` for a layer."""
        self._pin_labels(layer.labels, reason)

    def pin_value(self, value: Any, reason: str, *, unknown_op: bool = False) -> None:
        """Pin every id in a (nested) value."""
        for tensor in tensors_in(value):
            for layer in tensor.layers:
                self._pin_labels(layer.labels, reason, unknown_op=unknown_op)

    def _pin_labels(self, labels: Labels, reason: str, *, unknown_op: bool = False) -> None:
        if isinstance(labels, Run):
            ids = torch.arange(labels.start, labels.start + labels.size)
            self.pins.append(Pin(ids, self.node.name, self.op_name, reason, unknown_op))
        else:
            self.pin_ids(labels, reason, unknown_op=unknown_op)

    # ---------------------------------------------------------------- roles, gates, cost

    def mark_produced(self, labels: Labels) -> None:
        """These coordinates of leaves make values zero when they are zero."""
        self._produced.append(labels)

    def mark_consumed(self, labels: Labels) -> None:
        """These coordinates of leaves are only cut."""
        self._consumed.append(labels)

    def mark_divisor(self, labels: Labels) -> None:
        """These coordinates of leaves are only cut, and must never be set to zero."""
        self.mark_consumed(labels)
        self._divisors.append(labels)

    def put_between_pixels(self, layer: Layer) -> None:
        """These channels have been flattened together with dimensions that are longer for a larger image."""
        self._between.update(layer.ids.reshape(-1).tolist())

    def is_between_pixels(self, layer: Layer) -> bool:
        """Whether the layer's places may depend on the size of the image: its channels were once among pixels."""
        return (
            bool(self._between)
            and not isinstance(layer.labels, Run)
            and not self._between.isdisjoint(layer.labels.reshape(-1).tolist())
        )

    def put_among_samples(self, layer: Layer) -> None:
        """These channels have been flattened together with the batch, of which the example has one."""
        self._among.append(layer.labels)
        self._among_ids.update(layer.ids.reshape(-1).tolist())

    def is_among_samples(self, layer: Layer) -> bool:
        """Whether the layer's places may be others for more samples than the example's one."""
        return bool(self._among_ids) and not self._among_ids.isdisjoint(layer.ids.reshape(-1).tolist())

    def fix_sizes(self, layer: Layer, *, batch: bool = False) -> None:
        """Without some of these channels, the rest is right for inputs of the example's sizes only."""
        self._sized.append(layer.labels)
        if batch:
            self._batched.append(layer.labels)

    def pin_contradictions(self) -> None:
        """Pin what divides in one place and has to be zero in another."""
        if self._divisors:
            both = self._flags(self._divisors) & self._flags(self._produced)
            self.op_name = ""
            self.pin_ids(both.nonzero(), "divides in one place and is added or multiplied in another")

    def pin_kernels(self) -> None:
        """Pin the dimensions of weights that a layer does not take for channels, though something else may."""
        self.op_name = ""
        for (name, dim), axis in self.leaves.items():
            if dim in self._no_channels.get(name, ()):
                self.pin_ids(torch.arange(axis.start, axis.start + axis.size), KERNEL)

    def pin_shared_folds(self) -> None:
        """Pin what the bias of a layer that is used more than once would have to take up."""
        for fold in self.folds:
            names = [self.tensor_names[f"{fold.node.target}.{part}"] for part in ("weight", "bias")]
            if any(len(self._readers[name]) > 1 for name in names):
                self.node, self.op_name = fold.node, str(fold.node.target)
                self.pin_ids(
                    fold.ids[fold.constants != 0],
                    "the value is a constant other than zero where its channel is removed, and the layer whose bias "
                    "would have to take that up is used more than once",
                )

    def require_zero(self, layer: Layer, ids: torch.Tensor | None = None) -> None:
        """Pin the ids whose elements are consumed although they would not be zero."""
        bad = layer.ids[layer.nonzero] if ids is None else ids
        if bad.numel():
            self.pin_ids(
                bad,
                "the value is not zero where its channel is removed (for example a sigmoid, or an added constant), "
                "yet the operation mixes it with other channels; use an activation with f(0) = 0 before it",
            )

    def remembered(self, function: Any, find: Callable[[Any], float]) -> Callable[[Any], float]:
        """``find``, asked once in a run for each argument; nodes that compute the same name the same ``function``."""
        known = self._remembered.setdefault(function, {})

        def look_up(rests: Any) -> float:
            if rests not in known:
                known[rests] = find(rests)
            return known[rests]

        return look_up

    def fold(self, ids: torch.Tensor, rest: torch.Tensor) -> None:
        """The called module's bias takes up these constants of its input channels, where they are finite numbers."""
        constants = torch.where(rest.isfinite(), rest, 0.0).reshape(-1)
        self.folds.append(Fold(self.node, ids.reshape(-1), constants))

    def gate(self, value: fx.Node, layer: Layer) -> None:
        """This node mixes the channels of ``value`` that ``layer`` labels: a gate belongs before it."""
        if self.is_between_pixels(layer) and layer.scattered:
            self.fix_sizes(layer)
        self.gate_points.append(GatePoint(self.node, value, layer, fixed=self.is_among_samples(layer)))

    def cost(self, extents: Iterable[Labels], *, share: tuple[int, int] = (1, 1)) -> None:
        """``share`` of this node's FLOPs scale with the number of kept ids in each of these."""
        long = tuple([e for e in extents if math.prod(e.shape) > 1])
        self.costs.append(CostFactor(self.node, long, share))

    # ---------------------------------------------------------------- values

    def value(self, meta: torch.Tensor, layers: Iterable[Layer], *, moved_leaf: bool = False) -> TensorValue:
        """Build a value: layers of a single id are pinned, layers that share a dimension are merged."""
        kept: list[Layer] = []
        ndim = meta.dim()
        for layer in layers:
            if len(layer.labels.shape) != ndim:
                layer = align_layer(layer, ndim)
            if not layer.dims:
                reason = "a single channel is used on its own, it cannot be removed from a tensor of one channel"
                self.pin(layer, reason)
                continue
            if isinstance(layer.labels, torch.Tensor) and int(layer.labels.max()) < 0:
                continue
            clash = next((k for k in kept if set(k.dims) & set(layer.dims)), None) if kept else None
            if clash is not None:
                kept = [k for k in kept if k is not clash]
                if moved_leaf:  # axes of a parameter flattened together: the longer one stays prunable
                    shorter, longer = sorted((clash, layer), key=lambda y: torch.unique(y.ids).numel())
                    self.pin(shorter, "is flattened together with a longer axis of the same parameter")
                    kept.append(longer)
                    continue
                layer = self.merge(clash, layer, "meets coordinates that are always kept")
                layer = layer.with_rest(agreed(layer.rest, clash.rest))
            kept.append(layer)
        return TensorValue(meta, tuple(kept), moved_leaf)

    def merge(self, a: Layer, b: Layer, why: str) -> Layer:
        """Unify two layers; the ids are those of ``a`` (of ``b`` where it has none), the rest is ``a``'s."""
        ids = self.unify(a.ids, b.ids, why)
        return Layer(ids, a.at_rest if isinstance(a.at_rest, float) else a.at_rest.expand(ids.shape))

    @property
    def couplings(self) -> np.ndarray[Any, Any]:
        """All couplings of runs so far, (3, R): first ids of both, and how long they are."""
        flat = np.fromiter(chain.from_iterable(self._pairs), dtype=np.int64, count=3 * len(self._pairs))
        return np.transpose(flat.reshape(-1, 3))

    @property
    def edges(self) -> np.ndarray[Any, Any]:
        """All couplings of other ids so far, (2, E)."""
        if not self._left:
            return np.empty((2, 0), dtype=np.int64)
        pairs: np.ndarray[Any, Any] = torch.stack([torch.cat(self._left), torch.cat(self._right)]).numpy()
        return pairs

    def flags(self, only_cut: Container[str]) -> tuple[torch.Tensor, ...]:
        """(produced, consumed, sized, batched, among), bool per id.

        Args:
            only_cut: names of tensors that produce nothing.
        """
        marks = (self._produced, self._consumed, self._sized, self._batched, self._among)
        produced, consumed, *others = map(self._flags, marks)
        for (name, _), axis in self.leaves.items():
            if name in only_cut:
                own = slice(axis.start, axis.start + axis.size)
                consumed[own] |= produced[own]
                produced[own] = False
        return (produced, consumed, *others)

    def _flags(self, marks: Sequence[Labels]) -> torch.Tensor:
        flag = np.zeros(self.num_ids, dtype=bool)
        for labels in marks:
            if isinstance(labels, Run):
                start, dim, shape = labels
                flag[start : start + shape[dim]] = True
            else:
                ids = labels.reshape(-1).numpy()
                flag[ids[ids >= 0]] = True
        return torch.from_numpy(flag)


def _common(rest: torch.Tensor, dim: int) -> torch.Tensor:
    """The value at rest that all along ``dim`` have, of size 1 along it."""
    first = rest.narrow(dim, 0, 1)
    return torch.where((rest == first).all(dim, keepdim=True), first, ANYTHING)


@lru_cache(maxsize=1024)
def blank(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor on the meta device that stands for any of its layout: its memory says nothing."""
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")


@lru_cache(maxsize=1024)
def blank_vector(size: int, dim: int, ndim: int, dtype: torch.dtype) -> tuple[torch.Tensor, tuple[int, ...]]:
    """:func:`blank` of ``size`` elements along ``dim`` of ``ndim``, and its shape."""
    shape = (1,) * dim + (size,) + (1,) * (ndim - dim - 1)
    return blank(shape, shape, dtype), shape


def tensors_in(value: Any) -> list[TensorValue]:
    """All tensor values in nested containers."""
    if isinstance(value, TensorValue):
        return [value]
    found: list[TensorValue] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[TensorValue]) -> None:
    if isinstance(value, TensorValue):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for v in value:
            _collect(v, found)
    elif isinstance(value, dict):
        for v in value.values():
            _collect(v, found)
    elif isinstance(value, slice):
        _collect((value.start, value.stop, value.step), found)
