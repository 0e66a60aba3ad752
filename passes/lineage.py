"""Run the graph once on channel ids: which channels each coordinate of each value belongs to, and what couples them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from atofx.errors import TraceError, UnsupportedOpError
from atofx.ir.granularity import WHOLE_HEADS, Granularity
from atofx.ir.lineage import Lineage, Pin
from atofx.ir.values import ANYTHING, TensorValue, holds, unlabelled
from atofx.ops import REGISTRY, OpRecord
from atofx.ops.constants import memory_of
from atofx.ops.context import LineageContext, tensors_in
from atofx.ops.copies import copies_by_layout
from atofx.ops.indexing import expand_index
from atofx.ops.inplace import mutated_argument
from atofx.ops.registry import ModuleRecord
from atofx.passes.base import owner
from atofx.passes.other_size import OtherSize, larger_batch, larger_images, longer_rows
from atofx.passes.place import quoted
from atofx.passes.sharing import Sharing
from atofx.passes.trace import Traced
from atofx.passes.tracer import SOURCE


def trace_lineage(traced: Traced, granularity: Granularity = WHOLE_HEADS, *, strict: bool = False) -> Lineage:
    """The lineage of a traced model.

    Args:
        traced: the graph with meta values.
        granularity: which units attention is pruned in.
        strict: raise instead of pinning where an operation has no record.

    Raises:
        UnsupportedOpError: ``strict`` and an operation has no record.
        TraceError: what the model computes depends on the layout of its tensors in memory.
    """
    run = _Run(traced, granularity, strict)
    with torch.no_grad():
        for node in traced.graph.nodes:
            run.interpret(node)
    return run.finish()


class _Run:
    def __init__(self, traced: Traced, granularity: Granularity, strict: bool) -> None:
        self.traced = traced
        self.strict = strict
        of_module = cache(granularity.of)
        self.values: dict[fx.Node, Any] = {}
        self.ctx = LineageContext(
            traced.tensors,
            lambda node: of_module(owner(node)),
            self.values,
            OtherSize(traced.blueprint, larger_images, longer_rows).longer,
            OtherSize(traced.blueprint, larger_batch).longer,
        )
        self.sharing = Sharing()
        self._nodes = {node.name: node for node in traced.graph.nodes}

    def finish(self) -> Lineage:
        ctx = self.ctx
        ctx.pin_contradictions()
        ctx.pin_shared_folds()
        ctx.pin_kernels()
        produced, consumed, sized, batched, among = ctx.flags(self.traced.constants)
        return Lineage(
            values=self.values,
            leaves=ctx.leaves,
            num_ids=ctx.num_ids,
            couplings=ctx.couplings,
            edges=ctx.edges,
            pins=tuple(self._at_the_border(pin) for pin in ctx.pins),
            produced=produced,
            consumed=consumed,
            gate_points=tuple(ctx.gate_points),
            folds=tuple(ctx.folds),
            costs=tuple(ctx.costs),
            tensor_names=ctx.tensor_names,
            sized=sized,
            batched=batched,
            among=among,
        )

    def interpret(self, node: fx.Node) -> None:
        ctx = self.ctx
        ctx.node, ctx.out, ctx.module, ctx.op_name = node, node.meta.get("val"), None, node.op
        if node.op == "placeholder":
            self.values[node] = unlabelled(ctx.out)
        elif node.op == "get_attr":
            self.values[node] = self._attribute(str(node.target), ctx.out)
        elif node.op == "output":
            ctx.op_name = "output"
            for result, reason in self.traced.results(node):
                self._hand_out(self.resolve(result), reason)
            self.values[node] = None
        else:
            self._call(node)
        value = self.values[node]
        memories = [_memory(value)] if isinstance(value, TensorValue) else {_memory(v) for v in tensors_in(value)}
        self.sharing.add(node, memories, ctx.module)

    def _attribute(self, name: str, meta: Any) -> Any:
        """A parameter or buffer; any other tensor is only cut: nothing in the model's state could set it to zero."""
        if not isinstance(meta, torch.Tensor):
            return meta
        layers = self.ctx.leaf(name).layers
        if name not in self.traced.constants:
            return TensorValue(meta, layers, moved_leaf=True)
        layers = tuple(layer.with_rest(ANYTHING) for layer in layers)
        if not meta.is_floating_point():  # an index or a mask, more often than not
            return TensorValue(meta, layers, moved_leaf=True)
        for layer in layers:
            self.ctx.mark_consumed(layer.labels)
        return TensorValue(meta, layers)

    def _hand_out(self, result: Any, reason: str) -> None:
        """Pin what leaves the graph; a parameter handed out as it is counts as used."""
        self.ctx.pin_value(result, reason)
        for value in tensors_in(result):
            if value.moved_leaf:
                for layer in value.layers:
                    self.ctx.mark_consumed(layer.labels)

    def _at_the_border(self, pin: Pin) -> Pin:
        """The pin with a reason that names the input it comes from, if there is more to say about that."""
        node = self._nodes.get(pin.node)
        more = self.traced.entering(node) if node is not None and node.op != "output" else ""
        return replace(pin, reason=f"{pin.reason}; what it meets {more}") if more else pin

    def resolve(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, self.values.__getitem__)

    def _call(self, node: fx.Node) -> None:
        ctx = self.ctx
        ctx.module = module = self._module(node)
        ctx.op_name = describe(node, module)
        spelling = None if module is None else REGISTRY.module(module)
        record = REGISTRY.of(node, None) if spelling is None else spelling.op
        arguments, named = node.args, node.kwargs
        if len(arguments) == 1 and isinstance(arguments[0], fx.Node):  # as of most modules
            args: Any = (self.values[arguments[0]],)
        else:
            args = self.resolve(arguments)
        kwargs = self.resolve(dict(named)) if named else {}
        mutated = mutated_argument(node, module)
        if kwargs.get("out") is not None:
            ctx.pin_value((args, kwargs), "is written into another tensor with out=")
            self.values[node] = unlabelled(ctx.out)
        elif record is None:
            self.values[node] = self._unknown(node, module, tensors_in((args, kwargs)))
        elif not holds(ctx.out, torch.Tensor) and not tensors_in((args, kwargs)):
            self.values[node] = ctx.out
        else:
            self.values[node] = self._known(record, spelling, args, kwargs)
        if mutated is not None:
            self._after_mutation(node, mutated)

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.traced.blueprint.attributes[str(node.target)] if node.op == "call_module" else None

    def _known(self, record: OpRecord, spelling: ModuleRecord | None, args: Any, kwargs: Any) -> Any:
        if spelling is not None:
            args, kwargs = spelling.bind(self.ctx, self.ctx.module, *args, **kwargs)
        before = len(self.ctx.costs)
        result = record.lineage(self.ctx, *args, **kwargs)
        if len(self.ctx.costs) == before:
            self.ctx.cost(layer.labels for tensor in tensors_in(result) for layer in tensor.layers)
        return result

    def _unknown(self, node: fx.Node, module: nn.Module | None, operands: list[TensorValue]) -> Any:
        ctx = self.ctx
        what = f"no record describes {ctx.op_name}"
        if self.strict:
            shapes = [t.shape for t in operands]
            raise UnsupportedOpError(
                f"{what} (node {node.name}, inputs {shapes}). Add a record with atofx.register_op, or in a file of "
                "atofx/ops (CONTRIBUTING.md, 'Add an op'); without strict=True the channels that reach it stay whole"
            )
        reason = f"{what}; channels that reach it stay whole (add a record with atofx.register_op)"
        self._pin_call(node, module, operands, reason)
        return unlabelled(ctx.out)

    def _pin_call(self, node: fx.Node, module: nn.Module | None, operands: list[TensorValue], reason: str) -> None:
        """Pin what a call reads and what its module owns, and note it."""
        ctx = self.ctx
        ctx.pin_value(operands, reason, unknown_op=True)
        if not any(t.layers for t in operands):
            ctx.pins.append(_note(node, ctx.op_name, reason))
        if module is not None:
            for name, _ in [*module.named_parameters(), *module.named_buffers()]:
                ctx.pin_value(ctx.leaf(f"{node.target}.{name}"), reason)

    def _after_mutation(self, node: fx.Node, mutated: fx.Node) -> None:
        """The changed tensor carries the result from now on; other views of its memory must not depend on it."""
        new = self.values[node]
        old = self.values[mutated]
        if not isinstance(old, TensorValue):
            return
        if isinstance(new, TensorValue) and new.shape == old.shape:
            self.values[mutated] = new
        else:
            self.values[mutated] = old.with_layers(old.layers)  # it is filled with one number no more
        for other in self.sharing.family(_memory(old)):
            if other in (node, mutated) or not any(_comes_after(user, node) for user in other.users):
                continue
            copying = self.sharing.copying(mutated, other)
            if copying:
                self._keep_whole(node, copying, (self.values[other], old, new))
                continue
            if _is_written_back(node, mutated, other):
                continue  # and there `other` gets its new value
            if any(_overlap(value.meta, old.meta) for value in tensors_in(self.values[other])):
                self._keep_together(mutated, other)
            self.values[other] = self._changed(self.values[other], old, self.values[mutated])

    def _keep_whole(self, change: fx.Node, copying: list[fx.Node], values: tuple[Any, ...]) -> None:
        """Pin what a change in place reaches or not, as the nodes ``copying`` give a view or a copy.

        Raises:
            TraceError: that depends on the layout in memory. Then so does what the model computes, and with other
                widths the layouts are others.
        """
        for node in copying:
            operation = describe(node, self._module(node))
            if copies_by_layout(node, self._module(node)):
                raise TraceError(
                    f"{describe(change, self._module(change))}{quoted(change.meta.get(SOURCE))} changes in place what "
                    f"another tensor shares or not: {operation}{quoted(node.meta.get(SOURCE))} copies or not as the "
                    "elements lie in memory, so the result depends on that; make the change not in place, or clone() "
                    "where a copy is meant"
                )
            reason = f"a change in place reaches it or not: {operation} copies or not by type or mode"
            self.ctx.pin_value(values, reason)

    def _keep_together(self, one: fx.Node, other: fx.Node) -> None:
        """Pin what would make a copy of one of two views: then it does not see any more what the other is changed to.

        Every second of the channels is a slice; among those that are kept they may be no regular part, and an index
        selects them.
        """
        chains = [set(_views(node)) for node in (one, other)]
        for node in chains[0] ^ chains[1]:
            if node.target is not operator.getitem or not isinstance(node.args[0], fx.Node):
                continue
            source = self.values[node.args[0]]
            if not isinstance(source, TensorValue):
                continue
            entries, dims = expand_index(self.resolve(node.args[1]), source.ndim)
            for entry, dim in zip(entries, dims, strict=True):
                layer = None if dim is None else source.layer_on(dim)
                if layer is not None and isinstance(entry, slice) and entry.step not in (None, 1):
                    self.ctx.pin(layer, "is changed in place through a slice with steps of the same memory")

    def _changed(self, value: Any, old: TensorValue, new: TensorValue) -> Any:
        """A (nested) value after the tensor ``old`` became ``new`` in place; pinned where they overlap in part."""
        if isinstance(value, (tuple, list)):
            return type(value)(self._changed(v, old, new) for v in value)
        if not isinstance(value, TensorValue) or not _overlap(value.meta, old.meta):
            return value
        if _layout(value.meta) == _layout(old.meta):
            return new
        if _zero_at_rest(value, old, new) and _same_ids(old, new):  # so are the elements that changed
            return value.with_layers(value.layers)
        self.ctx.pin_value((value, old, new), "is changed in place through a view of the same memory")
        return value


def _views(node: fx.Node) -> Iterator[fx.Node]:
    """A node, what it is a view of, and so on."""
    memory = memory_of(node)
    source: fx.Node | None = node
    while source is not None:
        yield source
        source = next((n for n in source.all_input_nodes if memory_of(n) == memory), None)


def _is_written_back(node: fx.Node, mutated: fx.Node, other: fx.Node) -> bool:
    """Whether ``node`` is the ``+= 1`` of ``other[index] += 1``, which writes its result to the same place at once."""
    written = node.next
    return (
        written.target is operator.setitem
        and mutated.target is operator.getitem
        and mutated.args[0] is other
        and written.args == (*mutated.args, node)
    )


def _memory(value: TensorValue) -> int:
    """Which memory a tensor lies in; views share it."""
    return int(value.meta.untyped_storage()._cdata)


def _layout(meta: torch.Tensor) -> tuple[Any, ...]:
    return meta.shape, meta.stride(), meta.storage_offset()


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have elements in common."""
    if a.untyped_storage()._cdata != b.untyped_storage()._cdata:
        return False
    if a.element_size() != b.element_size() or _layout(a) == _layout(b):
        return True
    mine = torch.zeros(a.untyped_storage().nbytes() // a.element_size(), dtype=torch.bool)
    mine.as_strided(*_layout(a)).fill_(True)
    return bool(mine.as_strided(*_layout(b)).any())


def _zero_at_rest(*values: TensorValue) -> bool:
    return all(layer.clean for value in values for layer in value.layers)


def _same_ids(a: TensorValue, b: TensorValue) -> bool:
    return len(a.layers) == len(b.layers) and all(
        torch.equal(x.ids, y.ids) for x, y in zip(a.layers, b.layers, strict=True)
    )


def _comes_after(user: fx.Node, node: fx.Node) -> bool:
    return user is not node and node < user


def _note(node: fx.Node, op: str, reason: str) -> Pin:
    return Pin(torch.empty(0, dtype=torch.long), node.name, op, reason, unknown_op=True)


def describe(node: fx.Node, module: nn.Module | None) -> str:
    """A readable name of the operation and the place it is called from."""
    if module is not None:
        return f"{type(module).__name__} ({node.target})"
    if isinstance(node.target, str):
        return f"Tensor.{node.target}"
    return getattr(node.target, "__name__", str(node.target))
