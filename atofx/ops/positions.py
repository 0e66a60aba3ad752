"""Operations that count positions along a dimension, where channels and pixels were flattened into one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx

from atofx.ir.values import TensorValue
from atofx.ops.arguments import argument, target_name
from atofx.ops.context import LineageContext


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
            if varies and layer.repeats and (0 in varies or ctx.is_between_pixels(layer)):
                ctx.fix_sizes(layer, batch=0 in varies)
            counted.append(layer)
    return x if len(counted) == len(x.layers) else TensorValue(x.meta, tuple(counted), x.moved_leaf)


def fix_where_computed(ctx: LineageContext, x: TensorValue, dim: int, given: Any) -> None:
    """Positions along ``dim`` that are computed from the sizes of an image hold for that image size.

    Args:
        ctx: of the operation.
        x: what it works on.
        dim: the dimension.
        given: the positions, as the node has them: numbers, slices, nodes.
    """
    nodes: list[fx.Node] = []
    fx.node.map_arg(given, nodes.append)
    if any(_varies(ctx, node) for node in nodes):
        for layer in x.layers:
            if layer.shape[dim] > 1:
                ctx.fix_sizes(layer)


def _varies(ctx: LineageContext, node: fx.Node) -> bool:
    """Whether a number may be another one for another image: it is neither a width nor computed from widths."""
    if isinstance(ctx.values.get(node), TensorValue):
        return False  # an index: what it points to is a matter of its own
    for source in node.all_input_nodes:
        read = ctx.values.get(source)
        if not isinstance(read, TensorValue):
            if target_name(node) == "getitem" and isinstance(node.args[1], int):
                return not _is_width(ctx, source, node.args[1])
            if _varies(ctx, source):
                return True
        elif target_name(node) not in ("dim", "ndimension", "ndim"):
            return target_name(node) != "size" or not _is_width_of(ctx, read, argument(node, 1, "dim"))
    return False


def _is_width(ctx: LineageContext, sizes: fx.Node, position: int) -> bool:
    """Whether an entry of a tensor's sizes is a number of channels."""
    read = next((ctx.values[n] for n in sizes.all_input_nodes if isinstance(ctx.values.get(n), TensorValue)), None)
    return read is not None and target_name(sizes) in ("size", "getattr") and _is_width_of(ctx, read, position)


def _is_width_of(ctx: LineageContext, read: TensorValue, dim: Any) -> bool:
    layer = read.layer_on(dim % read.ndim) if isinstance(dim, int) else None
    return layer is not None and not ctx.is_between_pixels(layer)
