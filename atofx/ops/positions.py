"""Operations that count positions along a dimension, where channels and pixels were flattened into one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx

from atofx.ir.values import TensorValue, holds
from atofx.ops.arguments import argument, target_name
from atofx.ops.constants import constant_value
from atofx.ops.context import LineageContext
from atofx.ops.evaluate import is_literal


def countable(ctx: LineageContext, x: TensorValue, dims: Iterable[int], done: str, deed: str) -> TensorValue:
    """The value with the layers whose positions along ``dims`` stay what they are at every image size.

    The others are pinned: how many positions a channel takes up depends on how many pixels there are.

    Args:
        ctx: of the operation.
        x: what it works on.
        dims: dimensions, 0 or above, along which it counts positions.
        done: what happens to the value ("sliced").
        deed: the noun for it ("slice").
    """
    places = tuple(dims)
    counted = []
    for layer in x.layers:
        if any(layer.has_neighbours_alike(dim) for dim in places):
            ctx.pin(
                layer,
                f"is {done} after channels and pixels were flattened together, so the {deed} depends on the image size",
            )
        else:
            varies = [dim for dim in places if layer.shape[dim] > 1]
            if varies and ctx.is_among_samples(layer):
                ctx.fix_sizes(layer, batch=True)
            elif varies and layer.repeats and (0 in varies or ctx.is_between_pixels(layer)):
                ctx.fix_sizes(layer, batch=0 in varies)
            counted.append(layer)
    return x if len(counted) == len(x.layers) else TensorValue(x.meta, tuple(counted), x.moved_leaf)


def fix_where_computed(ctx: LineageContext, x: TensorValue, dim: int, given: Any) -> None:
    """Positions along ``dim`` that are computed from the sizes of an image, or of a batch, hold for these sizes.

    Args:
        ctx: of the operation.
        x: what it works on.
        dim: the dimension.
        given: the positions, as the node has them: numbers, slices, nodes; also constants computed in the graph.
    """
    layers = [layer for layer in x.layers if layer.shape[dim] > 1]
    free = free_sizes(ctx, given) if layers else []
    if free:
        batch = any(_is_of_batch(ctx, tensor, dims) for tensor, dims in free)
        for layer in layers:
            ctx.fix_sizes(layer, batch=batch)


Sizes = tuple[fx.Node, tuple[int, ...]]


def free_sizes(ctx: LineageContext, given: Any) -> list[Sizes]:
    """The sizes, other than widths, that arguments are computed from: tensors, and which of their dimensions.

    Args:
        ctx: of the operation.
        given: nodes, in any nesting: numbers, and constants computed from them. Tensors that depend on the data are
            left out: they are no constants.
    """
    todo: list[fx.Node] = []
    fx.node.map_arg(given, todo.append)
    todo = [node for node in todo if not _depends_on_data(ctx, node)]
    seen, found = set(todo), []
    while todo:
        node = todo.pop()
        read = None if holds(ctx.values.get(node), TensorValue) else _sizes_read(ctx, node)
        if read is not None:
            tensor, dims = read
            free = tuple(d for d in dims if not _is_width(ctx, tensor, d))
            found += [(tensor, free)] if free else []
            continue
        new = [n for n in node.all_input_nodes if n not in seen and not _depends_on_data(ctx, n)]
        seen.update(new)
        todo += new
    return found


def _depends_on_data(ctx: LineageContext, node: fx.Node) -> bool:
    return isinstance(ctx.values.get(node), TensorValue) and constant_value(node) is None


def _sizes_read(ctx: LineageContext, node: fx.Node) -> Sizes | None:
    """Which sizes of which tensor a number, or a tuple of numbers, is or hangs on; None if it is computed otherwise."""
    source = next(iter(node.all_input_nodes), None)
    if source is None:
        return None
    read, name = ctx.values.get(source), target_name(node)
    if isinstance(read, (tuple, list)) and holds(read, TensorValue):  # how many pieces there are
        cut = next((n for n in source.all_input_nodes if isinstance(ctx.values.get(n), TensorValue)), None)
        return None if cut is None else (cut, tuple(range(ctx.values[cut].ndim)))
    if isinstance(read, TensorValue):
        if name in ("dim", "ndimension") or (node.target is getattr and node.args[1] not in ("shape", "nbytes")):
            return source, ()
        dim = argument(node, 1, "dim") if name == "size" else 0 if name in ("len", "__len__") else None
        every = tuple(range(read.ndim))
        return source, every if not isinstance(dim, int) or not every else (every[dim],)
    if name != "getitem" or target_name(source) not in ("size", "getattr", "getitem"):
        return None
    whole = _sizes_read(ctx, source)
    index: Any = node.args[1]
    if whole is None or not is_literal(index):
        return None
    tensor, dims = whole
    return tensor, dims[index] if isinstance(index, slice) else (dims[index],)


def _is_of_batch(ctx: LineageContext, tensor: fx.Node, dims: Iterable[int]) -> bool:
    """Whether one of these sizes may be another one for another batch."""
    more = ctx.more(tensor)
    return more is None or not more.isdisjoint(dims)


def _is_width(ctx: LineageContext, tensor: fx.Node, dim: int) -> bool:
    """Whether a size is a number of channels: pixels and samples may have ids, too."""
    layer = ctx.values[tensor].layer_on(dim)
    if layer is None or ctx.is_between_pixels(layer):
        return False
    return not any(dim in (longer(tensor) or ()) for longer in (ctx.longer, ctx.more))
