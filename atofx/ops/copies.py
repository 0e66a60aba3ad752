"""Which operations return their input or a view of it at one time, and a copy at another."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from atofx.ops.arguments import target_name

_BY_LAYOUT = frozenset({"contiguous", "reshape", "reshape_as", "flatten", "ravel"})
_BY_TYPE = frozenset(
    {"to", "type", "type_as", "float", "double", "half", "bfloat16", "int", "long", "short", "bool", "cpu", "cuda"}
)
_BY_MODE = frozenset(
    {"dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"}
)
_BY_TYPE_OR_MODE = _BY_TYPE | _BY_MODE


def copies_at_times(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it depends on the layout in memory, the type or the mode if a node's result is a copy of its input.

    The example does not tell: a convolution is free to choose how its result lies, and a user to call the model in
    ``channels_last``, in another type, or in the other mode.
    """
    if copies_by_layout(node, module):
        return True
    if node.op == "call_module":
        return isinstance(module, _DropoutNd)
    return _is_call(node) and target_name(node) in _BY_TYPE_OR_MODE and node.kwargs.get("copy") is not True


def copies_by_layout(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it depends on the layout in memory, be it contiguous or ``channels_last``.

    In both, pixels lie among pixels in one order, so what is behind the first two dimensions may be merged or split.
    """
    if not (isinstance(module, nn.Flatten) if node.op == "call_module" else _is_call(node)):
        return False
    name = "flatten" if node.op == "call_module" else target_name(node)
    if name == "contiguous" or (name in _BY_TYPE and "memory_format" in node.kwargs):
        return node.kwargs.get("copy") is not True
    if name not in _BY_LAYOUT:
        return False
    before, after = _shape(*node.all_input_nodes[:1]), _shape(node)
    return before[:2] != after[:2] and _without_ones(before) != _without_ones(after)


def _shape(*nodes: fx.Node) -> tuple[int, ...]:
    return tuple(size for n in nodes if isinstance(value := n.meta.get("val"), torch.Tensor) for size in value.shape)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that say how elements lie; the first, of the batch, is 1 by chance."""
    return (*shape[:1], *(size for size in shape[1:] if size != 1))


def _is_call(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method")
