"""Batch, instance, group, layer, RMS and local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from atofx.ir.values import TensorValue
from atofx.ops.arguments import argument, source_node
from atofx.ops.context import LineageContext
from atofx.ops.layers import align_layer
from atofx.ops.pointwise import along_dim, meet
from atofx.ops.reduction import mix
from atofx.ops.registry import REGISTRY, OpRecord, same_shape
from atofx.ops.resize import Resizer


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
    x = ctx.confine(input, [1], "batch normalisation takes statistics over it")
    return _per_channel(ctx, x, running_mean, running_var, weight, bias, channel=1)


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
    roles: list[str] = ["x"]
    operands = [x]
    for role, vector in (("mean", mean), ("var", var), ("weight", weight), ("bias", bias)):
        if vector is not None:
            roles.append(role)
            operands.append(along_dim(vector, channel, x.ndim))

    def is_zero(zeros: tuple[bool, ...]) -> bool:
        zero = dict(zip(roles, zeros, strict=True))
        centred = zero["x"] and zero.get("mean", True)
        return zero.get("bias", True) and (zero.get("weight", False) or centred)

    statistics = [o for role, o in zip(roles, operands, strict=True) if role in ("mean", "var")]
    affine = weight is not None
    for vector in statistics:
        for layer in vector.layers:
            ctx.mark_consumed(layer.ids)
    quiet = [
        TensorValue(o.meta, o.layers, moved_leaf=o.moved_leaf and not (role == "var" or (role == "mean" and affine)))
        for role, o in zip(roles, operands, strict=True)
    ]
    layers = meet(ctx, quiet, x.shape, is_zero)
    ctx.cost([layer.ids for layer in layers])
    return ctx.value(ctx.out, layers)


def group_norm(
    ctx: LineageContext,
    input: TensorValue,
    num_groups: int,
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    eps: float = 1e-5,
) -> TensorValue:
    """Statistics over the channels of one group: whole groups are the units."""
    x = ctx.confine(input, (0, 1), "group normalisation takes statistics over it")
    width = x.shape[1] // num_groups
    layers = []
    for layer in x.layers:
        if layer.ids.shape[1] > 1:
            grouped = layer.ids.reshape(num_groups, width)
            ctx.unify(grouped, grouped[:, :1], "is normalised together with channels that are always kept")
        layers.append(layer)
    return _affine(ctx, TensorValue(x.meta, tuple(layers)), weight, bias, 1)


def _affine(
    ctx: LineageContext, x: TensorValue, weight: TensorValue | None, bias: TensorValue | None, dim: int
) -> TensorValue:
    operands = [x]
    roles = ["x"]
    for role, vector in (("weight", weight), ("bias", bias)):
        if vector is not None:
            operands.append(along_dim(vector, dim, x.ndim))
            roles.append(role)

    def is_zero(zeros: tuple[bool, ...]) -> bool:
        zero = dict(zip(roles, zeros, strict=True))
        return zero.get("bias", True) and (zero["x"] or zero.get("weight", False))

    layers = meet(ctx, operands, x.shape, is_zero)
    ctx.cost([layer.ids for layer in layers])
    return ctx.value(ctx.out, layers)


def layer_norm(
    ctx: LineageContext,
    input: TensorValue,
    normalized_shape: Sequence[int],
    weight: TensorValue | None = None,
    bias: TensorValue | None = None,
    eps: float | None = None,
) -> TensorValue:
    """Statistics over the trailing dimensions; channels along them stay, whole units along others pass."""
    count = len(normalized_shape) if isinstance(normalized_shape, (tuple, list, torch.Size)) else 1
    dims = list(range(input.ndim - count, input.ndim))
    layers = mix(
        ctx, input, dims, additive=False, zero_at_zero=True,
        reason="a normalisation over channels divides by their number; keeping them all keeps it exact",
    )  # fmt: skip
    x = TensorValue(input.meta, tuple(layers))
    operands = [x]
    for vector in (weight, bias):
        if vector is not None:
            shape = (1,) * (input.ndim - vector.ndim) + vector.shape
            moved = tuple(align_layer(y, input.ndim) for y in vector.layers)
            operands.append(TensorValue(torch.empty(shape, device="meta"), moved, vector.moved_leaf))
    final = meet(ctx, operands, input.shape, lambda zeros: zeros[0] and (bias is None or zeros[-1]))
    ctx.cost([layer.ids for layer in final])
    return ctx.value(ctx.out, final)


def local_response_norm(ctx: LineageContext, input: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """Neighbouring channels: pinned."""
    reason = "local response normalisation mixes neighbours"
    layers = mix(ctx, input, [1], additive=False, zero_at_zero=True, reason=reason)
    return ctx.value(ctx.out, layers)


# ---------------------------------------------------------------------- resize


def configure_features(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.BatchNorm*, nn.InstanceNorm*."""
    assert isinstance(module, nn.modules.batchnorm._NormBase)
    source = source_node(node)
    module.num_features = resizer.shape(source)[_channel(module, resizer.lineage.values[source].ndim)]


def _channel(module: nn.Module, ndim: int) -> int:
    if isinstance(module, _INSTANCE):
        return ndim - 1 - _INSTANCE.index(type(module)) - 1 if type(module) in _INSTANCE else 1
    return 1


def configure_group_norm(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.GroupNorm: as many groups as are kept, each of its full width."""
    assert isinstance(module, nn.GroupNorm)
    source = source_node(node)
    width = module.num_channels // module.num_groups
    module.num_channels = resizer.shape(source)[1]
    module.num_groups = module.num_channels // width


def resize_group_norm(resizer: Resizer, node: fx.Node) -> Any:
    """F.group_norm."""
    source = source_node(node)
    new = resizer.copy(node)
    if not resizer.is_resized(source):
        return new
    groups = resizer.original(argument(node, 1, "num_groups"))
    width = resizer.lineage.values[source].shape[1] // groups
    kept = resizer.shape(source)[1] // width
    if len(node.args) > 1:
        new.args = (new.args[0], kept, *new.args[2:])
    else:
        new.kwargs = {**new.kwargs, "num_groups": kept}
    return new


_TENSORS = ("running_mean", "running_var", "weight", "bias")
_BATCH = OpRecord("batch norm", batch_norm, shape=same_shape)
REGISTRY.add(_BATCH, functions=[F.batch_norm])
REGISTRY.add(
    _BATCH,
    modules=[nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm],
    bind=lambda ctx, m, input: ((input, *(ctx.module_leaf(n) for n in _TENSORS)), {}),
    configure=configure_features,
    tensors=("weight", "bias"),
)
_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_INSTANCE_RECORD = OpRecord("instance norm", instance_norm, shape=same_shape)
REGISTRY.add(_INSTANCE_RECORD, functions=[F.instance_norm])
REGISTRY.add(
    _INSTANCE_RECORD,
    modules=_INSTANCE,
    bind=lambda ctx, m, input: (
        (input, *(ctx.module_leaf(n) for n in _TENSORS)),
        {"spatial": _INSTANCE.index(type(m)) + 1} if type(m) in _INSTANCE else {},
    ),
    configure=configure_features,
    tensors=("weight", "bias"),
)
_GROUP = OpRecord("group norm", group_norm, resize_group_norm, shape=same_shape)
REGISTRY.add(_GROUP, functions=[F.group_norm, torch.group_norm])
REGISTRY.add(
    _GROUP,
    modules=[nn.GroupNorm],
    bind=lambda ctx, m, input: ((input, m.num_groups, ctx.module_leaf("weight"), ctx.module_leaf("bias")), {}),
    configure=configure_group_norm,
    tensors=("weight", "bias"),
)
_LAYER = OpRecord("layer norm", layer_norm, shape=same_shape)
REGISTRY.add(_LAYER, functions=[F.layer_norm, torch.layer_norm])
REGISTRY.add(
    _LAYER,
    modules=[nn.LayerNorm],
    bind=lambda ctx, m, input: ((input, m.normalized_shape, ctx.module_leaf("weight"), ctx.module_leaf("bias")), {}),
    tensors=("weight", "bias"),
)
_RMS = OpRecord("RMS norm", layer_norm, shape=same_shape)
REGISTRY.add(_RMS, functions=[F.rms_norm, torch.rms_norm])
REGISTRY.add(
    _RMS,
    modules=[nn.RMSNorm],
    bind=lambda ctx, m, input: ((input, m.normalized_shape, ctx.module_leaf("weight")), {}),
    tensors=("weight",),
)
_LRN = OpRecord("local response norm", local_response_norm)
REGISTRY.add(_LRN, functions=[F.local_response_norm], modules=[nn.LocalResponseNorm, nn.CrossMapLRN2d])
