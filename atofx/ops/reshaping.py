"""For which sizes of images and batches a reshape puts channels where it does at the example's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atofx.ir.values import Layer, TensorValue
from atofx.ops.arguments import argument, argument_node, target_name
from atofx.ops.context import LineageContext
from atofx.ops.layers import lines_up_by_chance, matching_blocks, reshape_layer, written_down


def fix_where_sizes_count(ctx: LineageContext, x: TensorValue) -> None:
    """Note which channels come among pixels, and which are where they are at the example's sizes only.

    Args:
        ctx: of the reshape.
        x: what is reshaped.
    """
    if x.moved_leaf or not x.layers:
        return
    given = _given(ctx, x)
    wanted = _wanted(ctx, given)
    names_pixels = _holds_pixels(ctx, written_down(x.shape, given, wanted))
    for layer in x.layers:
        if _names_the_batch(given, x, layer):
            ctx.fix_sizes(layer, batch=True)
        joins = _joins_pixels(ctx, x, layer)
        if joins:
            ctx.put_between_pixels(layer)
        among = joins or ctx.is_between_pixels(layer)
        by_chance = among and lines_up_by_chance(layer, x.shape, wanted)
        if _joins_one_sample(ctx, x, given, layer):
            ctx.put_among_samples(layer)
        if names_pixels or by_chance or _joins_one_pixel(ctx, x, layer):
            ctx.fix_sizes(layer)


def fix_where_squeezed(ctx: LineageContext, x: TensorValue, dim: int | Sequence[int] | None) -> None:
    """Note that a squeeze takes rows or columns away of which the example has only one.

    A larger image keeps them, so every dimension that is named afterwards is another one.
    """
    named = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    if _holds_pixels(ctx, [d % x.ndim for d in named if x.shape[d] == 1]):
        for layer in x.layers:
            ctx.fix_sizes(layer)


def _given(ctx: LineageContext, x: TensorValue) -> tuple[Any, ...]:
    """The sizes that view, reshape and unflatten are asked for, None for those it leaves alone, empty for others."""
    if target_name(ctx.node) == "unflatten":
        dim, sizes = argument(ctx.node, 1, "dim"), argument(ctx.node, 2, "sizes")
        if not isinstance(dim, int) or not isinstance(sizes, (tuple, list)):
            return ()
        return (None,) * (dim % x.ndim) + tuple(sizes) + (None,) * (x.ndim - 1 - dim % x.ndim)
    if target_name(ctx.node) not in ("view", "reshape"):
        return ()
    given: Sequence[Any] = ctx.node.args[1:] or (ctx.node.kwargs.get("shape") or ctx.node.kwargs.get("size") or (),)
    first = given[0] if len(given) == 1 else None
    return tuple(first if isinstance(first, (tuple, list)) else given)


def _wanted(ctx: LineageContext, given: Sequence[Any]) -> tuple[int, ...]:
    """The sizes a reshape makes, -1 for the one that is left to torch."""
    if len(given) != ctx.out.dim():
        return tuple(ctx.out.shape)
    return tuple(-1 if one == -1 else size for one, size in zip(given, ctx.out.shape, strict=True))


def _joins_pixels(ctx: LineageContext, x: TensorValue, layer: Layer) -> bool:
    """Whether a reshape brings channels into one dimension with others that are longer for a larger image."""
    blocks = [dims for dims, _ in matching_blocks(x.shape, tuple(ctx.out.shape))]
    return any(
        _holds_pixels(ctx, [d for d in dims if x.shape[d] > 1 and layer.shape[d] == 1])
        for dims in blocks
        if any(layer.shape[d] > 1 for d in dims)
    )


def _joins_one_pixel(ctx: LineageContext, x: TensorValue, layer: Layer) -> bool:
    """Whether a reshape brings channels into one dimension with rows or columns of which the example has only one.

    There the channels lie side by side; at a larger image they do not, so nothing read from their places would hold.
    """
    if not _holds_pixels(ctx, [d for d, size in enumerate(x.shape) if size == 1]):
        return False
    longer = ctx.longer(ctx.node)
    moved = reshape_layer(layer, x.shape, ctx.out.shape)
    return longer is None or any(moved.shape[d] > 1 for d in longer)


def _joins_one_sample(ctx: LineageContext, x: TensorValue, given: Sequence[Any], layer: Layer) -> bool:
    """Whether a reshape brings channels into one dimension with the batch, of which the example has one sample.

    There the channels lie side by side; for more samples they come again for each of them.
    """
    shape = ctx.out.shape
    is_as_before = not shape or (shape[0] == 1 and not (given and isinstance(given[0], int)))  # most often it is
    if x.shape[0] != 1 or is_as_before:
        return False
    moved = reshape_layer(layer, x.shape, shape)
    varies = {d for d, size in enumerate(moved.shape) if size > 1}
    more = ctx.more(ctx.node) if varies else frozenset()
    return more is None or not more.isdisjoint(varies)


def _holds_pixels(ctx: LineageContext, dims: Sequence[int]) -> bool:
    """Whether one of these dimensions of what is reshaped, the batch aside, is longer for a larger image."""
    source = argument_node(ctx.node, 0, "input")
    if source is None:
        return False
    others = {d for d in dims if d} - ctx.named_sizes.get(source, frozenset())
    if not others:
        return False
    longer = ctx.longer(source)
    return longer is None or bool(others & longer)


def _names_the_batch(given: Sequence[object], x: TensorValue, layer: Layer) -> bool:
    """Whether a view names the example's batch size and leaves another size to torch: it holds for that batch only."""
    literal = bool(given) and isinstance(given[0], int) and given[0] > 1 and -1 in given
    return literal and x.ndim > 1 and x.shape[0] == given[0] and layer.shape[0] == 1
