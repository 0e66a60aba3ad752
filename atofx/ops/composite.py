"""Composite modules and functions, spelled in basic operations while tracing so that their insides can be pruned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from atofx.ops import aten

Composite = Callable[..., Any]


class Composites:
    """How composite modules are written in basic operations; :meth:`module` answers None for what is not covered."""

    def module(self, module: nn.Module) -> Composite | None:
        """The open form of a module: called as ``f(module, *args, **kwargs)``."""
        if type(module).forward is nn.MultiheadAttention.forward and isinstance(module, nn.MultiheadAttention):
            plain = module.bias_k is None and not module.add_zero_attn
            return multihead_attention if plain else None
        return None

    def function(self, function: Any) -> Composite | None:
        """The open form of a function: an overload of ``torch.ops.aten`` is called by the name that has the record."""
        return aten.spelling(function)


COMPOSITES = Composites()


def multihead_attention(
    m: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """nn.MultiheadAttention as projections, scaled dot product attention and an output projection.

    Heads appear as a dimension of their own, so that whole heads are units. The attention weights are a separate branch
    that disappears when nobody reads them.

    Where the module itself calls scaled dot product attention (nobody asks for the weights, and it does not take its
    kernel for inference), the result is bit-equal to the module's: the same products of the same memory, with the rows
    in the order (length, batch). Where it does not, the two differ by rounding.
    """
    batched = query.dim() == 3
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
    elif m.batch_first:
        of = {id(x): x.transpose(0, 1) for x in (query, key, value)}  # one tensor stays one: its products are packed
        query, key, value = of[id(query)], of[id(key)], of[id(value)]
    heads, width = m.num_heads, m.head_dim
    length, batch = query.size(0), query.size(1)
    projected = (x.contiguous() for x in _projected(m, query, key, value))
    q, k, v = (x.reshape(x.size(0), x.size(1), heads, width).permute(1, 2, 0, 3) for x in projected)
    mask = _merged_mask(q, key_padding_mask, attn_mask, heads, batched=batched)
    dropout = m.dropout * m.training if m.dropout else 0.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    result = m.out_proj(out.permute(2, 0, 1, 3).reshape(length, batch, heads * width))
    if not batched:
        result = result.squeeze(1)
    elif m.batch_first:
        result = result.transpose(0, 1)
    return result, _weights(q, k, mask, width, average=average_attn_weights, batched=batched) if need_weights else None


def _projected(m: nn.MultiheadAttention, query: Any, key: Any, value: Any) -> Any:
    """Queries, keys and values, in as few products as the module takes."""
    bias: Any = m.in_proj_bias
    packed = m._qkv_same_embed_dim and key is value
    if packed and query is key:
        return F.linear(query, m.in_proj_weight, bias).chunk(3, -1)
    if packed:
        widths = [m.embed_dim, 2 * m.embed_dim]
        of_query, of_both = m.in_proj_weight.split(widths)
        bias_of_query, bias_of_both = (None, None) if bias is None else bias.split(widths)
        return F.linear(query, of_query, bias_of_query), *F.linear(key, of_both, bias_of_both).chunk(2, -1)
    if m._qkv_same_embed_dim:
        weights = m.in_proj_weight.chunk(3, 0)
    else:
        weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
    biases = (None, None, None) if bias is None else bias.chunk(3, 0)
    return tuple(F.linear(x, weights[i], biases[i]) for i, x in enumerate((query, key, value)))


def _merged_mask(q: Any, key_padding_mask: Any, attn_mask: Any, heads: int, *, batched: bool) -> Any:
    """One additive mask (N, heads or 1, L, S), or None. In boolean masks True forbids attention."""
    mask = None
    if attn_mask is not None:
        mask = _additive(attn_mask, q)
        if attn_mask.dim() == 3:
            mask = mask.reshape(-1, heads, mask.size(1), mask.size(2))
    if key_padding_mask is not None:
        padding = _additive(key_padding_mask, q)
        if not batched:
            padding = padding.unsqueeze(0)
        padding = padding.unsqueeze(1).unsqueeze(1)
        mask = padding if mask is None else mask + padding
    return mask


def _additive(mask: Any, like: Any) -> Any:
    if _dtype(mask) == torch.bool:
        return torch.zeros_like(mask, dtype=_dtype(like)).masked_fill(mask, float("-inf"))
    return mask


def _dtype(value: Any) -> torch.dtype:
    """Of a tensor, or of a proxy of one."""
    dtype = value.node.meta["val"].dtype if hasattr(value, "node") else value.dtype
    assert isinstance(dtype, torch.dtype)
    return dtype


def _weights(q: Any, k: Any, mask: Any, width: int, *, average: bool, batched: bool) -> Any:
    scores = torch.matmul(q, k.transpose(-2, -1)) * width**-0.5
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, -1)
    if average:
        weights = weights.mean(1)
    return weights if batched else weights.squeeze(0)
