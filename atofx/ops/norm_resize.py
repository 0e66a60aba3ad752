"""Norms in the compact graph: native ones where their statistics are whole, else ones that count what was cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from atofx.nn import CutGroupNorm, CutLayerNorm, CutRMSNorm
from atofx.nn import functional as cut
from atofx.ops.arguments import argument, source_node
from atofx.ops.resize import Resizer

INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def configure_features(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.BatchNorm*, nn.InstanceNorm*."""
    assert isinstance(module, nn.modules.batchnorm._NormBase)
    source = source_node(node)
    channel = 1
    if type(module) in INSTANCE_NORMS:
        channel = resizer.lineage.values[source].ndim - 2 - INSTANCE_NORMS.index(type(module))
    module.num_features = resizer.shape(source)[channel]


def resize_batch_norm(resizer: Resizer, node: fx.Node) -> Any:
    """F.batch_norm: native unless elements that its own statistics are taken over were cut."""
    share = _batch_share(resizer, node)
    if share == 1:
        return resizer.copy(node)
    weight, bias, eps = (
        resizer.forward(argument(node, i, name, default))
        for i, name, default in ((3, "weight", None), (4, "bias", None), (7, "eps", 1e-5))
    )
    return resizer.function(cut.batch_norm, resizer.new(source_node(node)), weight, bias, eps, share=share)


def resize_cut_batch_norm(resizer: Resizer, node: fx.Node) -> Any:
    """The one of a compact model that is compacted once more."""
    new = resizer.copy(node)
    new.kwargs = {**new.kwargs, "share": _batch_share(resizer, node) * _earlier_share(node)}
    return new


def _batch_share(resizer: Resizer, node: fx.Node) -> float:
    source = source_node(node)
    return resizer.share(source, [d for d in range(resizer.lineage.values[source].ndim) if d != 1])


def _earlier_share(node: fx.Node) -> float:
    """What a compact model's norm has lost before."""
    return float(argument(node, len(node.args), "share", 1.0))


def configure_layer_norm(module: nn.Module, resizer: Resizer, node: fx.Node) -> nn.Module:
    """nn.LayerNorm and the norm of a compact model."""
    assert isinstance(module, nn.LayerNorm)
    share = _resize_shape(module, resizer, node)
    return module if share == 1 else CutLayerNorm.of(module, share)


def configure_rms_norm(module: nn.Module, resizer: Resizer, node: fx.Node) -> nn.Module:
    """nn.RMSNorm and the norm of a compact model."""
    assert isinstance(module, nn.RMSNorm)
    share = _resize_shape(module, resizer, node)
    return module if share == 1 else CutRMSNorm.of(module, share)


def _resize_shape(module: nn.LayerNorm | nn.RMSNorm, resizer: Resizer, node: fx.Node) -> float:
    """Set ``normalized_shape``; the share of its elements that is kept."""
    source, ndim = source_node(node), len(module.normalized_shape)
    cut_dims = resizer.keep(source)[-ndim:]
    module.normalized_shape = tuple(
        size if kept is None else kept.numel() for size, kept in zip(module.normalized_shape, cut_dims, strict=True)
    )
    return resizer.share(source, range(-ndim, 0))


def configure_group_norm(module: nn.Module, resizer: Resizer, node: fx.Node) -> nn.Module:
    """nn.GroupNorm: as many groups as are kept, each of its full width; or as many, some channels of each."""
    assert isinstance(module, nn.GroupNorm)
    groups, share = _groups_and_share(resizer, node, module.num_groups)
    module.num_groups = groups
    module.num_channels = resizer.shape(source_node(node))[1]
    return module if share == 1 else CutGroupNorm.of(module, share)


def whole_groups_go(num_groups: int, width: int) -> bool:
    """Whether a group norm loses whole groups (and stays a native one), rather than some channels of every group."""
    return num_groups > 1 and num_groups >= width


def _groups_and_share(resizer: Resizer, node: fx.Node, num_groups: int) -> tuple[int, float]:
    source = source_node(node)
    width = resizer.lineage.values[source].shape[1] // num_groups
    if whole_groups_go(num_groups, width):
        return resizer.shape(source)[1] // width, 1.0
    return num_groups, resizer.share(source, [1])


def resize_group_norm(resizer: Resizer, node: fx.Node) -> Any:
    """F.group_norm and the one of a compact model."""
    source = source_node(node)
    if not resizer.is_resized(source):
        return resizer.copy(node)
    groups, share = _groups_and_share(resizer, node, resizer.original(argument(node, 1, "num_groups")))
    weight, bias, eps = (resizer.forward(argument(node, i, n)) for i, n in ((2, "weight"), (3, "bias"), (4, "eps")))
    eps = 1e-5 if eps is None else eps
    share *= _earlier_share(node)
    if share == 1:
        return resizer.call(node, (resizer.new(source), groups, weight, bias, eps))
    return resizer.function(cut.group_norm, resizer.new(source), groups, weight, bias, eps, share=share)


def resize_layer_norm(resizer: Resizer, node: fx.Node) -> Any:
    """F.layer_norm."""
    return _resize_to(cut.layer_norm, resizer, node, (("weight", None), ("bias", None), ("eps", 1e-5)))


def resize_rms_norm(resizer: Resizer, node: fx.Node) -> Any:
    """F.rms_norm."""
    return _resize_to(cut.rms_norm, resizer, node, (("weight", None), ("eps", None)))


def _resize_to(
    function: Callable[..., Any], resizer: Resizer, node: fx.Node, rest: Sequence[tuple[str, float | None]]
) -> Any:
    source = source_node(node)
    normalized_shape = resizer.original(argument(node, 1, "normalized_shape"))
    ndim = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    share = resizer.share(source, range(-ndim, 0))
    if share == 1:
        return _native(resizer, node, ndim)
    others = [resizer.forward(argument(node, i, name, default)) for i, (name, default) in enumerate(rest, start=2)]
    return resizer.function(function, resizer.new(source), ndim, *others, share=share)


def _native(resizer: Resizer, node: fx.Node, ndim: int) -> fx.Node:
    """The same norm over all elements there are: of the shape that its input has."""
    new = resizer.copy(node)
    shape = resizer.shape(source_node(node))[-ndim:]
    if shape == resizer.lineage.values[source_node(node)].shape[-ndim:]:
        return new
    if len(new.args) > 1:
        new.args = (new.args[0], shape, *new.args[2:])
    else:
        new.kwargs = {**new.kwargs, "normalized_shape": shape}
    return new


def resize_cut_norm(resizer: Resizer, node: fx.Node) -> Any:
    """The functional norms of a compact model that is compacted once more."""
    share = resizer.share(source_node(node), range(-argument(node, 1, "ndim"), 0)) * _earlier_share(node)
    new = resizer.copy(node)
    new.kwargs = {**new.kwargs, "share": share}
    return new
