"""Emit the compact graph: every node's counterpart with literals, indices and modules at their kept sizes."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import fx, nn

from atofx.ir.copies import deepcopy
from atofx.ir.lineage import Lineage
from atofx.ir.values import TensorValue, holds
from atofx.nn.sizes import expect_sizes
from atofx.ops.arguments import argument, target_name
from atofx.ops.evaluate import is_literal, meta_call
from atofx.ops.layers import compress

Keep = tuple[torch.Tensor | None, ...]

#: Numbers that say how the elements of a tensor lie in memory.
LAYOUT = frozenset({"stride", "storage_offset"})


class Resizer:
    """What an op's resize function may use.

    Attributes:
        graph: the graph being built.
        attributes: qualified name -> module, parameter or buffer of the compact module.
        index_names: attributes that are index buffers; they are no part of the state dict.
        double: whether parameters and buffers become float64.
        widens: whether coordinates are repeated, not cut: sizes read in the graph follow, and divisors count what is
            there, as in the same model written wider. Where something is cut, they stay those of the dense model.

    Args:
        source: the traced module.
        lineage: of it.
        copies: per id, how often its coordinates stand in the result: 0 (cut) or 1, in a wider model 1 or more.
        units: per id, a number that is the same for all ids of one unit, and -1 at the end for "no channel".
    """

    def __init__(self, source: fx.GraphModule, lineage: Lineage, copies: torch.Tensor, units: torch.Tensor) -> None:
        self.source = source
        self.lineage = lineage
        self.graph = fx.Graph()
        self.attributes: dict[str, Any] = {}
        self.index_names: list[str] = []
        self.double = False
        self.widens = bool((copies > 1).any())
        self._units = units
        self._copies = torch.cat([copies.long(), torch.ones(1, dtype=torch.long)])  # index -1 (no channel) reads 1
        self._env: dict[fx.Node, Any] = {}
        self._concrete: dict[fx.Node, Any] = {}
        self._originals: dict[fx.Node, Any] = {}
        self._fixed: dict[fx.Node, set[int]] = {}
        self._tensors: dict[str, torch.Tensor] = {}

    # ---------------------------------------------------------------- what is kept

    def keep(self, node: fx.Node) -> Keep:
        """Per dimension of a tensor node: indices of the kept coordinates, None where all are.

        In a wider model an index stands there as often as its coordinate is repeated, side by side.
        """
        value = self.lineage.values[node]
        assert isinstance(value, TensorValue), node
        return self.keep_of(value)

    def keep_of(self, value: TensorValue) -> Keep:
        """:meth:`keep` for a value."""
        keep: list[torch.Tensor | None] = [None] * value.ndim
        for layer in value.layers:
            copies = self._copies[layer.ids]
            if bool((copies == 1).all()):
                continue
            dims = [d for d, size in enumerate(compress(copies).shape) if size > 1]
            if not dims:  # all are repeated equally often: along the dimension that tells units apart
                dims = [d for d, size in enumerate(compress(self._units[layer.ids]).shape) if size > 1]
            assert len(dims) == 1, f"not rectangular: {value.shape}, varies along {dims}"
            first = copies.movedim(dims[0], 0).reshape(copies.shape[dims[0]], -1)[:, 0]
            keep[dims[0]] = repeated(first)
        return tuple(keep)

    def shape_of(self, value: TensorValue) -> tuple[int, ...]:
        """The compact shape of a value at the example input."""
        return tuple(size if k is None else k.numel() for size, k in zip(value.shape, self.keep_of(value), strict=True))

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The compact shape of a tensor node at the example input."""
        return self.shape_of(self.lineage.values[node])

    def is_kept(self, ids: torch.Tensor) -> torch.Tensor:
        """Per id, whether it is kept; coordinates without a channel are."""
        return self._copies[ids] > 0

    def is_resized(self, node: fx.Node) -> bool:
        """Whether any dimension of a tensor node changes its size."""
        return any(k is not None for k in self.keep(node))

    def share(self, node: fx.Node, dims: Iterable[int]) -> float:
        """Kept elements along ``dims`` of a tensor node, divided by original ones; 1 in a wider model."""
        if self.widens:
            return 1.0
        value, keep = self.lineage.values[node], self.keep(node)
        cut = [d for d in {d % value.ndim for d in dims} if keep[d] is not None]
        self.fix(node, [d for d in cut if _occurrences(value, d) is None])
        kept = math.prod(self.shape(node)[d] for d in cut)
        return float(kept / math.prod(value.shape[d] for d in cut))

    def original(self, argument: Any) -> Any:
        """The concrete value of an argument in the dense graph."""
        return fx.node.map_arg(argument, lambda n: self.lineage.values[n]) if not is_literal(argument) else argument

    def compact_value(self, argument: Any) -> Any:
        """The concrete value of an argument in the compact graph; tensors on the meta device."""
        return fx.node.map_arg(argument, lambda n: self._concrete[n])

    # ---------------------------------------------------------------- emit

    def new(self, node: fx.Node) -> Any:
        """The counterpart of a node."""
        return self._env[node]

    def fix(self, node: fx.Node, dims: Iterable[int]) -> None:
        """From here on the counterpart of a tensor node checks its sizes along cut dimensions.

        What counts positions there calls this first: a dimension along which channels occur more than once, as where
        they are flattened together with pixels, may be longer for a larger image.
        """
        value, keep = self.lineage.values[node], self.keep(node)
        wanted = {d % value.ndim for d in dims}
        cut = {d for d in wanted if keep[d] is not None and _occurrences(value, d) != 1}
        if cut - self._fixed.get(node, set()):
            self._fixed[node] = cut | self._fixed.get(node, set())
            sizes = [size if d in self._fixed[node] else None for d, size in enumerate(self.shape(node))]
            self._env[node] = self.function(expect_sizes, self._env[node], tuple(sizes))

    def number(self, argument: Any) -> Any:
        """An argument whose *number* must stay what it was: a size read from a shrunk tensor becomes a literal.

        In a wider model it follows.
        """
        if self.widens:
            return self.forward(argument)

        def replace(node: fx.Node) -> Any:
            value = self.lineage.values[node]
            return self._env[node] if holds(value, TensorValue) else self._original(node)

        return fx.node.map_arg(argument, replace)

    def _original(self, node: fx.Node) -> Any:
        """A number as the dense graph computes it, from sizes that are cut here."""
        value = self.lineage.values[node]
        if self._concrete[node] == value:
            return self._env[node]
        if node not in self._originals:
            self._originals[node] = self._emit_original(node, value)
        return self._originals[node]

    def _emit_original(self, node: fx.Node, value: Any) -> Any:
        for source in node.all_input_nodes:
            read = self.lineage.values[source]
            if holds(read, TensorValue):
                return self._original_sizes(node, source, value) if isinstance(read, TensorValue) else value
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), self._original)
        if node.target is operator.getitem and isinstance(args[0], tuple) and isinstance(args[1], (int, slice)):
            return args[0][args[1]]
        if node.op == "call_method" and isinstance(args[0], tuple):  # sizes have methods that no other tuple has
            args = (self.function(torch.Size, args[0]), *args[1:])
        return self.graph.create_node(node.op, node.target, tuple(args), kwargs)

    def _original_sizes(self, node: fx.Node, source: fx.Node, value: Any) -> Any:
        """Sizes read from a cut tensor: literals, or scaled where they depend on the size of the image."""
        now, ndim = self._concrete[node], self.lineage.values[source].ndim
        name = str(argument(node, 1, "name")) if node.target is getattr else target_name(node)
        if name in LAYOUT:  # of memory whose channels are all there
            return self._env[node]
        if name in ("numel", "nelement", "nbytes"):
            return self._scaled(node, source, range(ndim), value, now)
        if name in ("size", "len", "__len__") and isinstance(value, int):
            dim = self.original(argument(node, 1, "dim", 0))
            return self._scaled(node, source, [dim], value, now)
        if name not in ("size", "shape"):
            return value
        return tuple(
            self.function(operator.getitem, self._env[node], dim)
            if new == old
            else self._scaled(node, source, [dim], old, new)
            for dim, (old, new) in enumerate(zip(value, now, strict=True))
        )

    def _scaled(self, node: fx.Node, source: fx.Node, dims: Sequence[int], value: int, now: int) -> Any:
        """How many elements there were along ``dims``, of which ``now`` are left at the example input."""
        of = self.lineage.values[source]
        if len(dims) == 1 and _occurrences(of, dims[0] % of.ndim) == 1 and not self._is_among_samples(of, dims[0]):
            return value
        self.fix(source, [d for d in dims if _occurrences(of, d % of.ndim) is None])
        left = self.call(node, self.forward(node.args), self.forward(dict(node.kwargs)))
        if isinstance(self._concrete[node], (tuple, list)):
            left = self.function(operator.getitem, left, dims[0])
        common = math.gcd(value, now)
        return self.function(operator.floordiv, self.function(operator.mul, left, value // common), now // common)

    def _is_among_samples(self, value: TensorValue, dim: int) -> bool:
        """Whether channels along a dimension may come again for every further sample."""
        layer = value.layer_on(dim % value.ndim)
        return layer is not None and bool(self.lineage.among[layer.ids.reshape(-1).clamp(min=0)].any())

    def forward(self, argument: Any) -> Any:
        """An argument with every node replaced by its counterpart; sizes are free to change."""
        return fx.node.map_arg(argument, lambda n: self._env[n])

    def sizes(self, argument: Any, wanted: int) -> Any:
        """A size argument that must become ``wanted``: kept as it is where it already gives that, else a literal.

        A size computed in the graph is scaled, so that the part of it that is batch or image size stays free.
        """
        value = self.compact_value(argument)
        if not isinstance(argument, fx.Node):
            return argument if value in (wanted, -1) else wanted
        return self.fitted(self._env[argument], value, wanted)

    def fitted(self, size: fx.Node, value: Any, wanted: int) -> Any:
        """:meth:`sizes` for one that is emitted already, and what it is in the compact graph."""
        if value in (wanted, -1):
            return size
        if not isinstance(value, int) or value < 1:
            return wanted
        common = math.gcd(wanted, value)
        scaled = self.function(operator.mul, size, wanted // common)
        return scaled if value == common else self.function(operator.floordiv, scaled, value // common)

    def call(self, node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> fx.Node:
        """Emit a call of the node's own target with new arguments."""
        if node.op == "call_module" and node.target not in self.attributes:
            self.attributes[str(node.target)] = self.module(str(node.target))
        new = self.graph.create_node(node.op, node.target, tuple(args), dict(kwargs or {}), node.name, node.type)
        new.meta = copy.copy(node.meta)
        return new

    def function(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Emit a call of another function."""
        return self.graph.call_function(target, args, kwargs)

    def copy(self, node: fx.Node) -> fx.Node:
        """Emit the node as it is, numbers kept."""
        return self.call(node, self.number(node.args), self.number(dict(node.kwargs)))

    def index_buffer(self, node: fx.Node, index: torch.Tensor) -> fx.Node:
        """Emit an index tensor as a buffer named after the node; a model that is compact already has some, too."""
        name = f"_{node.name}_index"
        while name in self.attributes or hasattr(self.source, name):
            name += "_"
        self.attributes[name] = index
        self.index_names.append(name)
        return self.graph.get_attr(name)

    def select(self, node: fx.Node, value: Any, keep: Keep) -> Any:
        """Cut ``value`` (an emitted node) along every dimension that keeps a part."""
        for dim, index in enumerate(keep):
            if index is not None:
                value = self.function(torch.index_select, value, dim, self.index_buffer(node, index))
        return value

    # ---------------------------------------------------------------- tensors and modules

    def tensor(self, name: str) -> torch.Tensor:
        """The sliced copy of a parameter or buffer; one object per tied tensor."""
        canonical = self.lineage.tensor_names[name]
        if canonical not in self._tensors:
            source = _fetch(self.source, name)
            data = source.detach()
            for dim, index in enumerate(self.kept_axes(canonical, data.dim())):
                if index is not None:
                    data = data.index_select(dim, index.to(data.device))
            data = data.clone(memory_format=_memory_format(source))
            if self.double and data.is_floating_point():
                data = data.double()
            if isinstance(source, nn.Parameter):
                data = nn.Parameter(data, requires_grad=source.requires_grad)
            self._tensors[canonical] = data
        return self._tensors[canonical]

    def kept_axes(self, name: str, ndim: int) -> Keep:
        """Per dimension of a parameter or buffer: the kept coordinates, None where all are."""
        keep: list[torch.Tensor | None] = [None] * ndim
        canonical = self.lineage.tensor_names.get(name, name)
        for dim in range(ndim):
            axis = self.lineage.leaves.get((canonical, dim))
            if axis is not None:
                copies = self._copies[axis.start : axis.start + axis.size]
                if not bool((copies == 1).all()):
                    keep[dim] = repeated(copies)
        return tuple(keep)

    def module(self, name: str) -> nn.Module:
        """A copy of a leaf module with sliced tensors (size attributes are set by its record)."""
        source = self.source.get_submodule(name)
        memo: dict[int, Any] = {}
        for prefix, module in source.named_modules(remove_duplicate=False):
            for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
                if tensor is not None:
                    qualified = ".".join(part for part in (name, prefix, key) if part)
                    memo[id(tensor)] = self.tensor(qualified)
        return deepcopy(source, memo)

    # ---------------------------------------------------------------- bookkeeping

    def record(self, node: fx.Node, new: Any) -> None:
        """Remember a node's counterpart and what it evaluates to."""
        self._env[node] = new
        value = self.lineage.values[node]
        self._concrete[node] = _compact_meta(self, value) if holds(value, TensorValue) else self._evaluate(node, value)

    def _evaluate(self, node: fx.Node, value: Any) -> Any:
        if node.op in ("placeholder", "get_attr", "output") or value is None:  # an assignment to a slice has no value
            return value
        try:
            return meta_call(node, self.compact_value(node.args), self.compact_value(dict(node.kwargs)))
        except (ZeroDivisionError, ValueError, TypeError):
            # (width // heads) ** -0.5 of one channel, shape.index(width), and what is computed from such a number: what
            # reads it is given the old one
            return None


def _compact_meta(resizer: Resizer, value: Any) -> Any:
    if isinstance(value, TensorValue):
        return torch.empty(resizer.shape_of(value), dtype=value.meta.dtype, device="meta")
    if isinstance(value, (tuple, list)):
        return (
            type(value)(_compact_meta(resizer, v) for v in value)
            if not hasattr(value, "_fields")
            else tuple(_compact_meta(resizer, v) for v in value)
        )
    if isinstance(value, dict):
        return {k: _compact_meta(resizer, v) for k, v in value.items()}
    return value


def repeated(copies: torch.Tensor) -> torch.Tensor:
    """Every index as often as its entry says: ``[2, 0, 1]`` gives ``[0, 0, 2]``."""
    return torch.repeat_interleave(torch.arange(copies.numel()), copies)


def places(kept: torch.Tensor, size: int, wanted: torch.Tensor) -> torch.Tensor:
    """Where coordinates stand among the kept ones: none for one that was cut, all of them for one that is repeated.

    Args:
        kept: indices of the kept coordinates, rising; repeated ones side by side.
        size: how many coordinates there were.
        wanted: original coordinates, in the order in which their places are listed.
    """
    copies = torch.bincount(kept, minlength=size)
    first = (copies.cumsum(0) - copies)[wanted]
    counts = copies[wanted]
    total = torch.arange(int(counts.sum()))
    within = total - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return torch.repeat_interleave(first, counts) + within


def _occurrences(value: TensorValue, dim: int) -> int | None:
    """How often every channel occurs along a dimension, None where that differs."""
    layer = value.layer_on(dim)
    return 1 if layer is None else layer.occurrences(dim)


def _memory_format(tensor: torch.Tensor) -> torch.memory_format:
    """The order in which a tensor's elements lie, which selecting channels loses."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    found = formats.get(tensor.dim())
    lies_so = found is not None and tensor.is_contiguous(memory_format=found) and not tensor.is_contiguous()
    return found if found is not None and lies_so else torch.preserve_format


def _fetch(root: nn.Module, name: str) -> torch.Tensor:
    prefix, _, attribute = name.rpartition(".")
    result = getattr(root.get_submodule(prefix), attribute)
    assert isinstance(result, torch.Tensor)
    return result
