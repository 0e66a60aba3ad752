"""Batch, instance, group, layer, RMS and local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from atofx.ir.values import TensorValue
from atofx.nn import CutGroupNorm, CutLayerNorm, CutRMSNorm
from atofx.nn import functional as cut
from atofx.ops.context import LineageContext
from atofx.ops.layers import align_layer
from atofx.ops.meeting import AtRest, meet, zero_if
from atofx.ops.norm_resize import (
    INSTANCE_NORMS,
    configure_features,
    configure_group_norm,
    configure_layer_norm,
    configure_rms_norm,
    resize_batch_norm,
    resize_cut_batch_norm,
    resize_cut_norm,
    resize_group_norm,
    resize_layer_norm,
    resize_rms_norm,
    whole_groups_go,
)
from atofx.ops.pointwise import along_dim
from atofx.ops.reduction import kept_through, mix
from atofx.ops.registry import REGISTRY, OpRecord, same_shape


def batch_norm(
    ctx: LineageContext,
    input: TensorValue,
    running_mean: TensorValue | None = None,
    running_var: TensorValue | None = None,
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    *args: Any,
    **kwargs: Any,
) -> TensorValue:
    """(x - mean) / sqrt(var + eps) * weight + bias, per channel of dimension 1."""
    if running_mean is None:
        return cut_batch_norm(ctx, input, weight, bias)
    x = ctx.confine(input, [1], "batch normalisation takes statistics over it")
    return _per_channel(ctx, x, running_mean, running_var, weight, bias, channel=1)


def cut_batch_norm(
    ctx: LineageContext,
    input: TensorValue,
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    eps: float = 1e-5,
    *,
    share: float = 1.0,
) -> TensorValue:
    """By the batch's own statistics, over everything but dimension 1: standardised weights are made like this."""
    mixed = [d for d in range(input.ndim) if d != 1]
    x = input.with_layers(kept_through(ctx, input, mixed, centred=True))
    return _affine(ctx, x, *(None if v is None else along_dim(v, 1, x.ndim) for v in (weight, bias)))


def instance_norm(
    ctx: LineageContext,
    input: TensorValue,
    running_mean: TensorValue | None = None,
    running_var: TensorValue | None = None,
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    *args: Any,
    spatial: int | None = None,
    **kwargs: Any,
) -> TensorValue:
    """Per sample and channel."""
    channel = 1 if spatial is None else input.ndim - 1 - spatial
    x = ctx.confine(input, range(channel + 1), "instance normalisation takes statistics over it")
    return _per_channel(ctx, x, running_mean, running_var, weight, bias, channel=channel)


def _per_channel(
    ctx: LineageContext,
    x: TensorValue,
    mean: TensorValue | None,
    var: TensorValue | None,
    weight: TensorValue | None,
    bias: TensorValue | None,
    *,
    channel: int,
) -> TensorValue:
    """Zero at zero: the weight and bias make it so; without them, the running mean does where the input is zero."""
    roles, operands = ["x"], [x]
    for role, vector in (("mean", mean), ("var", var), ("weight", weight), ("bias", bias)):
        if vector is None:
            continue
        operand = along_dim(vector, channel, x.ndim)
        if role in ("mean", "var"):
            for layer in operand.layers:
                ctx.mark_consumed(layer.labels)
            if role == "var" or weight is not None:  # cut, but not what makes it zero
                operand = TensorValue(operand.meta, operand.layers)
        roles.append(role)
        operands.append(operand)
    layers = meet(ctx, operands, x.shape, _per_channel_at_rest(tuple(roles)))
    ctx.cost([layer.labels for layer in layers])
    return ctx.value(ctx.out, layers)


@cache
def _per_channel_at_rest(roles: tuple[str, ...]) -> AtRest:
    """The result's value at rest from those of the operands that have these roles."""

    def is_zero(zeros: tuple[bool, ...]) -> bool:
        zero = dict(zip(roles, zeros, strict=True))
        centred = zero["x"] and zero.get("mean", True)
        return zero.get("bias", True) and (zero.get("weight", False) or centred)

    return lru_cache(maxsize=256)(zero_if(is_zero))


def group_norm(
    ctx: LineageContext,
    input: TensorValue,
    num_groups: int,
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    eps: float = 1e-5,
    *,
    share: float = 1.0,
) -> TensorValue:
    """Statistics over the channels of one group: whole groups are the units, or one channel in every group is."""
    x = ctx.confine(input, (0, 1), "group normalisation takes statistics over it")
    width = x.shape[1] // num_groups
    whole = whole_groups_go(num_groups, width)
    for layer in x.layers:
        if layer.shape[1] > 1:
            grouped = layer.ids.reshape(num_groups, width)
            first = grouped[:, :1] if whole else grouped[:1]
            ctx.unify(grouped, first, "is normalised together with channels that are always kept")
    layers = list(x.layers) if whole else kept_through(ctx, x, range(1, x.ndim), centred=True)
    vectors = [None if v is None else along_dim(v, 1, x.ndim) for v in (weight, bias)]
    return _affine(ctx, x.with_layers(layers), *vectors)


def layer_norm(
    ctx: LineageContext,
    input: TensorValue,
    normalized_shape: int | Sequence[int],
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    eps: float | None = None,
) -> TensorValue:
    """Statistics over the trailing dimensions; elements that are cut still count."""
    return cut_layer_norm(ctx, input, _length(normalized_shape), weight, bias)


def cut_layer_norm(
    ctx: LineageContext,
    input: TensorValue,
    ndim: int,
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    eps: float | None = None,
    *,
    share: float = 1.0,
) -> TensorValue:
    """:func:`layer_norm` by the number of dimensions it normalises."""
    x = input.with_layers(kept_through(ctx, input, range(-ndim, 0), centred=True))
    return _affine(ctx, x, *(_aligned(v, x.ndim) for v in (weight, bias)))


def rms_norm(
    ctx: LineageContext,
    input: TensorValue,
    normalized_shape: int | Sequence[int],
    weight: TensorValue | None = None,
    eps: float | None = None,
) -> TensorValue:
    """Divided by the root mean square over the trailing dimensions; elements that are cut still count."""
    return cut_rms_norm(ctx, input, _length(normalized_shape), weight)


def cut_rms_norm(
    ctx: LineageContext,
    input: TensorValue,
    ndim: int,
    weight: TensorValue | None = None,
    eps: float | None = None,
    *,
    share: float = 1.0,
) -> TensorValue:
    """:func:`rms_norm` by the number of dimensions it normalises."""
    x = input.with_layers(kept_through(ctx, input, range(-ndim, 0), centred=False))
    return _affine(ctx, x, _aligned(weight, x.ndim), None)


def _affine(ctx: LineageContext, x: TensorValue, weight: TensorValue | None, bias: TensorValue | None) -> TensorValue:
    """Normalised ``x`` times weight plus bias, all of as many dimensions."""
    roles = {"x": x} | {role: v for role, v in (("weight", weight), ("bias", bias)) if v is not None}

    def is_zero(zeros: tuple[bool, ...]) -> bool:
        zero = dict(zip(roles, zeros, strict=True))
        return zero.get("bias", True) and (zero["x"] or zero.get("weight", False))

    layers = meet(ctx, list(roles.values()), x.shape, zero_if(is_zero))
    ctx.cost([layer.labels for layer in layers])
    return ctx.value(ctx.out, layers)


def _aligned(vector: TensorValue | None, ndim: int) -> TensorValue | None:
    if vector is None:
        return None
    meta = vector.meta.reshape((1,) * (ndim - vector.ndim) + vector.shape)
    return TensorValue(meta, tuple(align_layer(layer, ndim) for layer in vector.layers), vector.moved_leaf)


def _length(normalized_shape: int | Sequence[int]) -> int:
    return 1 if isinstance(normalized_shape, int) else len(normalized_shape)


def local_response_norm(ctx: LineageContext, input: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """Neighbouring channels: pinned."""
    reason = "local response normalisation mixes neighbours"
    layers = mix(ctx, input, [1], additive=False, stays="zero", reason=reason)
    return ctx.value(ctx.out, layers)


# ---------------------------------------------------------------------- records

_TENSORS = ("running_mean", "running_var", "weight", "bias")
_BATCH = OpRecord("batch norm", batch_norm, resize_batch_norm, shape=same_shape, normalizes=True)
REGISTRY.add(_BATCH, functions=[F.batch_norm])
REGISTRY.add(OpRecord("batch norm", cut_batch_norm, resize_cut_batch_norm, normalizes=True), functions=[cut.batch_norm])
REGISTRY.add(
    _BATCH,
    modules=[nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm],
    bind=lambda ctx, m, input: ((input, *ctx.module_vectors(_TENSORS, 1, input.ndim)), {}),
    configure=configure_features,
    tensors=("weight", "bias"),
)
_INSTANCE_RECORD = OpRecord("instance norm", instance_norm, shape=same_shape, normalizes=True)
REGISTRY.add(_INSTANCE_RECORD, functions=[F.instance_norm])
REGISTRY.add(
    _INSTANCE_RECORD,
    modules=INSTANCE_NORMS,
    bind=lambda ctx, m, input: (
        (input, *(ctx.module_leaf(n) for n in _TENSORS)),
        {"spatial": INSTANCE_NORMS.index(type(m)) + 1} if type(m) in INSTANCE_NORMS else {},
    ),
    configure=configure_features,
    tensors=("weight", "bias"),
)
_GROUP = OpRecord("group norm", group_norm, resize_group_norm, shape=same_shape, normalizes=True)
REGISTRY.add(_GROUP, functions=[F.group_norm, torch.group_norm, cut.group_norm])
REGISTRY.add(
    _GROUP,
    modules=[nn.GroupNorm, CutGroupNorm],
    bind=lambda ctx, m, input: ((input, m.num_groups, ctx.module_leaf("weight"), ctx.module_leaf("bias")), {}),
    configure=configure_group_norm,
    tensors=("weight", "bias"),
)
_LAYER = OpRecord("layer norm", layer_norm, resize_layer_norm, shape=same_shape, normalizes=True)
REGISTRY.add(_LAYER, functions=[F.layer_norm, torch.layer_norm])
REGISTRY.add(OpRecord("layer norm", cut_layer_norm, resize_cut_norm, normalizes=True), functions=[cut.layer_norm])
REGISTRY.add(
    _LAYER,
    modules=[nn.LayerNorm, CutLayerNorm],
    bind=lambda ctx, m, input: ((input, m.normalized_shape, ctx.module_leaf("weight"), ctx.module_leaf("bias")), {}),
    configure=configure_layer_norm,
    tensors=("weight", "bias"),
)
_RMS = OpRecord("RMS norm", rms_norm, resize_rms_norm, shape=same_shape, normalizes=True)
REGISTRY.add(_RMS, functions=[F.rms_norm, torch.rms_norm])
REGISTRY.add(OpRecord("RMS norm", cut_rms_norm, resize_cut_norm, normalizes=True), functions=[cut.rms_norm])
REGISTRY.add(
    _RMS,
    modules=[nn.RMSNorm, CutRMSNorm],
    bind=lambda ctx, m, input: ((input, m.normalized_shape, ctx.module_leaf("weight")), {}),
    configure=configure_rms_norm,
    tensors=("weight",),
)
_LRN = OpRecord("local response norm", local_response_norm)
REGISTRY.add(_LRN, functions=[F.local_response_norm], modules=[nn.LocalResponseNorm, nn.CrossMapLRN2d])
