"""Tensors made inside forward: zeros, ones, full, arange, eye, … Their extents join whatever they meet."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from atofx.ir.values import TensorValue
from atofx.nn.sizes import expect_sizes
from atofx.ops.arguments import target_name
from atofx.ops.context import LineageContext, tensors_in
from atofx.ops.movement import emit_sizes
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def filled(ctx: LineageContext, *args: Any, **kwargs: Any) -> TensorValue:
    """zeros, ones, full, empty, rand, new_zeros, …: any size can be cut."""
    name, given = target_name(ctx.node), ctx.node.args
    written = ctx.node.kwargs.get("fill_value", given[-1] if given else None) if name.endswith("full") else None
    number = 0 if name.endswith("zeros") else 1 if name.endswith("ones") else written
    return ctx.constant(ctx.out, _fill(ctx, number))


def _fill(ctx: LineageContext, number: Any) -> float | None:
    """The number that a tensor is filled with, if one is written."""
    return float(number) if type(number) in (int, float) and ctx.out.dtype.is_floating_point else None


def sequence(ctx: LineageContext, *args: Any, **kwargs: Any) -> TensorValue:
    """arange, linspace, eye, tensor(…): values differ, so the finished tensor is cut."""
    ctx.pin_value([t for t in tensors_in((args, kwargs)) if t.ndim], "its values make a new tensor")
    written = ctx.node.args[-1] if target_name(ctx.node) == "new_tensor" else None
    return ctx.constant(ctx.out, _fill(ctx, written))


def resize_filled(resizer: Resizer, node: fx.Node) -> Any:
    """Sizes at their kept values."""
    if not resizer.is_resized(node):
        return resizer.copy(node)
    name = target_name(node)
    skip = 1 if node.op == "call_method" else 0
    head, sizes = node.args[:skip], list(node.args[skip:])
    tail: list[Any] = []
    if name.endswith("full") and sizes and "fill_value" not in node.kwargs:
        tail = [sizes.pop()]
    kwargs = dict(node.kwargs)
    if not sizes:
        sizes = [kwargs.pop("size")]
    wanted = resizer.shape(node)
    new_sizes = tuple(emit_sizes(resizer, tuple(sizes), wanted))
    args = (*resizer.number(head), new_sizes, *resizer.number(tuple(tail)))
    return resizer.call(node, args, resizer.number(kwargs))


def resize_sequence(resizer: Resizer, node: fx.Node) -> Any:
    """Cut the finished tensor; one whose length is computed may be longer for a larger image."""
    whole, keep = resizer.copy(node), resizer.keep(node)
    if node.all_input_nodes and resizer.is_resized(node):
        sizes = [
            None if kept is None else size for kept, size in zip(keep, resizer.lineage.values[node].shape, strict=True)
        ]
        whole = resizer.function(expect_sizes, whole, tuple(sizes))
    return resizer.select(node, whole, keep)


_filled = ["zeros", "ones", "full", "empty", "rand", "randn"]
_sequences = [
    "arange", "linspace", "logspace", "eye", "tensor", "tril_indices", "triu_indices", "as_tensor", "hann_window",
]  # fmt: skip
_new = ["new_zeros", "new_ones", "new_full", "new_empty"]
_FILLED = OpRecord("filled tensor", filled, resize_filled)
REGISTRY.add(_FILLED, functions=[getattr(torch, n) for n in _filled], methods=_new)
REGISTRY.add(
    OpRecord("constant sequence", sequence, resize_sequence),
    functions=[*(getattr(torch, n) for n in _sequences), torch.randint, torch.randperm],
    methods=["new_tensor"],
)
