"""Operations that count positions along a dimension, where channels and pixels were flattened into one."""

from __future__ import annotations

from collections.abc import Iterable

from atofx.ir.values import TensorValue
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
            counted.append(layer)
    return x if len(counted) == len(x.layers) else TensorValue(x.meta, tuple(counted), x.moved_leaf)
