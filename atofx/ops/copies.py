"""Which operations return their input or a view of it at one time, and a copy at another."""

from __future__ import annotations

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
_AT_TIMES = _BY_LAYOUT | _BY_TYPE | _BY_MODE


def copies_at_times(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it depends on the layout in memory, the type or the mode if a node's result is a copy of its input.

    The example does not tell: a convolution is free to choose how its result lies, and a user to call the model in
    ``channels_last``, in another type, or in the other mode.
    """
    if node.op == "call_module":
        return isinstance(module, (nn.Flatten, _DropoutNd))
    if node.op not in ("call_function", "call_method") or node.kwargs.get("copy") is True:
        return False
    return target_name(node) in _AT_TIMES
