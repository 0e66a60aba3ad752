"""Embedding tables: the embedding dimension is a channel axis, the vocabulary is not."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from atofx.ir.values import TensorValue
from atofx.ops.context import LineageContext
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def embedding(
    ctx: LineageContext,
    input: TensorValue,
    weight: TensorValue,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    *args: Any,
    **kwargs: Any,
) -> TensorValue:
    """(…) indices, (V, D) table -> (…, D)."""
    ctx.pin_value(input, "is used as an index into an embedding table")
    layers = []
    for layer in weight.layers:
        if layer.dims != (1,):
            ctx.pin(layer, "rows of an embedding table are looked up by index")
        elif max_norm is not None:
            ctx.pin(layer, "an embedding with max_norm is renormalised over it")
        else:
            if weight.moved_leaf:
                ctx.mark_produced(layer.labels)
            shape = [1] * input.ndim + [layer.shape[1]]
            layers.append(layer.moved(partial(torch.reshape, shape=shape)))
    return ctx.value(ctx.out, layers)


def one_hot(ctx: LineageContext, input: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """(…) class numbers -> (…, classes), all of them kept."""
    ctx.pin_value(input, "is used as class numbers")
    return TensorValue(ctx.out)


def configure_embedding(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.Embedding."""
    assert isinstance(module, nn.Embedding)
    module.embedding_dim = module.weight.shape[1]


_EMBEDDING = OpRecord("embedding", embedding)
REGISTRY.add(_EMBEDDING, functions=[F.embedding])
REGISTRY.add(
    _EMBEDDING,
    modules=[nn.Embedding],
    bind=lambda ctx, m, input: ((input, ctx.module_leaf("weight"), m.padding_idx, m.max_norm), {}),
    configure=configure_embedding,
    tensors=("weight",),
)
REGISTRY.add(OpRecord("one hot", one_hot), functions=[F.one_hot])
