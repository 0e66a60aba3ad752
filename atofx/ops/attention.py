"""Scaled dot product attention: two sums of products with a softmax between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from atofx.ir.values import ANYTHING, TensorValue
from atofx.ops.arguments import argument_node, source_node
from atofx.ops.context import LineageContext
from atofx.ops.contraction import contract, letters_for
from atofx.ops.meeting import meet, zero_if
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def attention(
    ctx: LineageContext,
    query: TensorValue,
    key: TensorValue,
    value: TensorValue,
    attn_mask: TensorValue | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> TensorValue:
    """softmax(q kᵀ · scale + mask) v, as two contractions; whole heads are the units, or one dimension of all."""
    if enable_gqa:  # a key head serves several query heads: they go together
        key, value = (_repeated_heads(t, query.shape[-3]) for t in (key, value))
    ndim = max(t.ndim for t in (query, key, value))
    batch = letters_for(ndim - 2)

    def labels(t: TensorValue, tail: str) -> str:
        return batch[len(batch) - (t.ndim - 2) :] + tail

    nodes = [argument_node(ctx.node, 0, "query"), argument_node(ctx.node, 1, "key")]
    width, value_width = query.shape[-1], value.shape[-1]
    total = width + value_width
    scores = contract(
        ctx, [query, key], nodes, [labels(query, "LD"), labels(key, "SD")], batch + "LS", cost_share=(width, total)
    )
    batches = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    shape = (*batches, query.shape[-2], key.shape[-2])
    meta = torch.empty(shape, device="meta")
    layers = []
    for layer in scores:
        if layer.shape[-1] > 1:
            if len(layer.dims) == 1:
                ctx.pin(layer, "attention's softmax runs over it")
                continue
            layer = ctx.tie(layer, [len(layer.shape) - 1])
        layers.append(layer.with_rest(ANYTHING))
    weights = TensorValue(meta, tuple(layers))
    if attn_mask is not None:
        weights = TensorValue(meta, tuple(meet(ctx, [weights, attn_mask], shape, zero_if(lambda zeros: False))))
        softmaxed = []
        for layer in weights.layers:
            if layer.shape[-1] > 1:
                ctx.pin(layer, "attention's softmax runs over it")
            else:
                softmaxed.append(layer)
        weights = TensorValue(meta, tuple(softmaxed))
    out = contract(
        ctx,
        [weights, value],
        [None, argument_node(ctx.node, 2, "value")],
        [batch + "LS", labels(value, "SV")],
        batch + "LV",
        cost_share=(value_width, total),
    )
    return ctx.value(ctx.out, out)


def _repeated_heads(x: TensorValue, heads: int) -> TensorValue:
    """Every head as often as it takes to make ``heads`` of them."""
    times = heads // x.shape[-3]
    layers = []
    for layer in x.layers:
        varies = layer.shape[-3] > 1
        layers.append(layer.moved(lambda t: t.repeat_interleave(times, -3)) if varies else layer)
    shape = (*x.shape[:-3], heads, *x.shape[-2:])
    return TensorValue(torch.empty(shape, dtype=x.meta.dtype, device="meta"), tuple(layers), x.moved_leaf)


def resize_attention(resizer: Resizer, node: fx.Node) -> Any:
    """The default scale is 1/sqrt of the *original* head dimension."""
    query = source_node(node, "query")
    if resizer.widens or resizer.keep(query)[-1] is None or node.kwargs.get("scale") is not None:
        return resizer.copy(node)
    resizer.fix(query, [-1])
    new = resizer.copy(node)
    new.kwargs = {**new.kwargs, "scale": resizer.lineage.values[query].shape[-1] ** -0.5}
    return new


REGISTRY.add(
    OpRecord("scaled dot product attention", attention, resize_attention), functions=[F.scaled_dot_product_attention]
)
