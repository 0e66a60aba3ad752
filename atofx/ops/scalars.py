"""Sizes, shapes and other plain numbers read from tensors; Python containers."""

from __future__ import annotations

import operator
from collections import OrderedDict
from typing import Any

import torch
from torch import fx

from atofx.ir.values import TensorValue
from atofx.ops.arguments import source_node
from atofx.ops.constants import memory_of
from atofx.ops.context import LineageContext
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import LAYOUT, Resizer


def plain(ctx: LineageContext, *args: Any, **kwargs: Any) -> Any:
    """The result is no tensor: whatever it is at the example input."""
    return ctx.out


def layout(ctx: LineageContext, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Strides and offsets hang on everything that lies in the same memory, which must be what it was."""
    memory = memory_of(source_node(ctx.node))
    same = [value for node, value in ctx.values.items() if memory_of(node) == memory]
    ctx.pin_value(same, "its layout in memory is read")
    return ctx.out


def ordered(ctx: LineageContext, items: Any = (), **entries: Any) -> dict[str, Any]:
    """OrderedDict([(key, value), ...]), as segmentation models return; classes derived from it take keywords."""
    return dict(items) | entries


def attribute(ctx: LineageContext, x: Any, name: str, *default: Any) -> Any:
    """``x.shape``, ``x.dtype``; ``x.T``, ``x.mT`` and ``x.data`` are tensors."""
    if not isinstance(ctx.out, torch.Tensor):
        return ctx.out
    if not isinstance(x, TensorValue):  # a named tuple: x.values, x.indices
        container = source_node(ctx.node).meta["val"]
        return next(v for v, item in zip(x, container, strict=True) if item is ctx.out)
    if name in ("data", "real"):
        return TensorValue(ctx.out, x.layers, x.moved_leaf)
    if name in ("T", "mT", "H", "mH"):
        moved = tuple(_transposed(x, name))
        return TensorValue(ctx.out, moved, x.moved_leaf)
    ctx.pin_value(x, f"its attribute {name!r} is read")
    return TensorValue(ctx.out)


def resize_attribute(resizer: Resizer, node: fx.Node) -> Any:
    """``result.values`` of two tensors, of which only the first is left."""
    found = resizer.new(source_node(node))
    return found[0] if isinstance(found, tuple) else resizer.copy(node)


def _transposed(x: TensorValue, name: str) -> Any:
    order = list(range(x.ndim))
    if name in ("T", "H"):
        order.reverse()
    else:
        order[-1], order[-2] = order[-2], order[-1]
    for layer in x.layers:
        yield layer.moved(lambda t: t.permute(order))


_PLAIN = OpRecord("size", plain)
REGISTRY.add(
    _PLAIN,
    functions=[
        len, isinstance, torch.numel, torch.is_tensor, torch.is_floating_point, torch.Size, operator.contains,
        torch._assert, torch.sym_float, torch.sym_int, torch.sym_ite, torch.sym_max, torch.sym_min, torch.sym_not,
    ],
    methods=[
        "size", "dim", "ndimension", "numel", "nelement", "is_contiguous", "element_size",
        "is_floating_point", "get_device", "keys", "items", "values", "is_complex", "bit_length",
        "__len__",
    ],
)  # fmt: skip
REGISTRY.add(OpRecord("layout in memory", layout), methods=sorted(LAYOUT))
REGISTRY.add(OpRecord("attribute", attribute, resize_attribute), functions=[getattr])
REGISTRY.add(OpRecord("ordered dict", ordered), functions=[OrderedDict])
