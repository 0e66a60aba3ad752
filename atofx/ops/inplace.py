"""Which graph nodes change one of their arguments in place."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

_IN_PLACE_FUNCTIONS = frozenset(
    {
        operator.setitem, operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv,
        operator.imod, operator.ipow, operator.iand, operator.ior, operator.ixor, operator.imatmul,
    }
)  # fmt: skip


def works_in_place(module: nn.Module) -> bool:
    """Whether a module is asked to change its input in place."""
    own = vars(module)
    return (own["inplace"] if "inplace" in own else getattr(type(module), "inplace", False)) is True


def mutated_argument(node: fx.Node, module: nn.Module | None) -> fx.Node | None:
    """The node whose tensor this node changes, None if it changes none."""
    if node.op == "call_module":
        return _first(node) if module is not None and works_in_place(module) else None
    target = _first(node) if node.op in ("call_function", "call_method") else None
    if target is None:
        return None
    out = node.kwargs.get("out")
    if isinstance(out, fx.Node):
        return out
    if node.kwargs.get("inplace") is True:
        return target
    if node.op == "call_method":
        name = str(node.target)
        return target if name.endswith("_") and not name.endswith("__") else None
    if node.target in _IN_PLACE_FUNCTIONS:
        return target
    if isinstance(node.target, torch._ops.OpOverload):
        return target if _writes_first(node.target) else None
    name = getattr(node.target, "__name__", "")
    return target if name.endswith("_") and not name.endswith("__") else None


def _first(node: fx.Node) -> fx.Node | None:
    target = node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("out"))
    return target if isinstance(target, fx.Node) else None


def _writes_first(overload: torch._ops.OpOverload) -> bool:
    alias = overload._schema.arguments[0].alias_info
    return alias is not None and bool(alias.is_write)
