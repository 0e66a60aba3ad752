"""Operations of torch.export, spelled as the torch functions and methods that have the records.

There is one table of records. An exported graph calls overloads such as ``aten.view.default``; each is called here by
the name a user would write, so its lineage, resizing and counting are those of that function or method.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch.nn import functional as F

from atofx.ops.registry import REGISTRY
from atofx.ops.spellings import SPELLINGS, Spelling, plain

#: Functions written in Python whose arguments are in the order of the overload's.
_SAME_ORDER = frozenset(
    {
        "adaptive_avg_pool2d", "adaptive_avg_pool3d", "celu", "elu", "glu", "hardsigmoid", "hardswish", "hardtanh",
        "leaky_relu", "mish", "relu6", "selu", "silu",
    }
)  # fmt: skip
#: torch's factories; looked up when called, since tracing replaces them.
_FACTORIES = frozenset({"zeros", "ones", "full", "empty", "rand", "randn", "arange", "linspace", "eye"})
#: Methods written in Python whose arguments are in the order of the overload's.
_PYTHON_METHODS = frozenset({"norm", "split", "unflatten"})


def spelling(overload: Any) -> Spelling | None:
    """How an ``aten`` operation is called by the name a user would write; None if it has none.

    Args:
        overload: ``torch.ops.aten.relu.default``, or a packet of overloads such as ``torch.ops.aten.relu``.
    """
    if not isinstance(overload, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return None
    namespace, base, *variant = str(overload).split(".")  # aten.view.default
    if namespace != "aten" or "out" in variant:
        return None
    return SPELLINGS.get(".".join((base, *variant))) or SPELLINGS.get(base) or _by_name(base, overload)


def mode_argument(overload: Any) -> int | None:
    """The position of the argument that says whether the model is in training mode, if the operation has one."""
    if not isinstance(overload, torch._ops.OpOverload):
        return None
    names = [argument.name for argument in overload._schema.arguments]
    return next((names.index(name) for name in ("train", "training") if name in names), None)


def _by_name(name: str, overload: Any) -> Spelling | None:
    """The method or function of the same name, where its arguments are in the same order; those with a record first."""
    if name in _FACTORIES:
        return lambda *args, **kwargs: getattr(torch, name)(*args, **plain(kwargs))
    method = getattr(torch.Tensor, name, None)
    of_self = not isinstance(overload, torch._ops.OpOverload) or _first_argument(overload) == "self"
    by_method = of_self and (isinstance(method, MethodDescriptorType) or name in _PYTHON_METHODS)
    functions = _functions(name)
    known = next((f for f in functions if REGISTRY.function(f) is not None), None)
    if by_method and (REGISTRY.method(name) is not None or known is None):
        return _method_spelling(name, known)
    function = known or next(iter(functions), None)
    if function is None:
        return _in_place(name)
    given = _reduction(overload)
    if given is not None:
        return lambda *args, **kwargs: function(*args, **given(args), **plain(kwargs))
    return lambda *args, **kwargs: function(*args, **plain(kwargs))


def _reduction(overload: Any) -> Callable[[tuple[Any, ...]], dict[str, Any]] | None:
    """What to add to the arguments of a loss: torch's functions take ``reduction`` for none where it is left out.

    The overload's own default is the mean.
    """
    arguments = overload._schema.arguments if isinstance(overload, torch._ops.OpOverload) else ()
    for place, argument in enumerate(arguments):
        if argument.name == "reduction" and argument.has_default_value():
            default = argument.default_value
            return lambda args: {} if len(args) > place else {"reduction": default}
    return None


def _first_argument(overload: torch._ops.OpOverload) -> str:
    return next((argument.name for argument in overload._schema.arguments), "")


def _functions(name: str) -> list[Spelling]:
    found = [getattr(space, name, None) for space in (torch, F, torch._C._nn)]
    same = F if name in _SAME_ORDER else None
    return [f for f in found if isinstance(f, BuiltinFunctionType) or (same is not None and f is getattr(same, name))]


def _method_spelling(name: str, function: Spelling | None) -> Spelling:
    def call(first: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(first, (int, float)) and function is not None:  # torch.pow(2, x)
            return function(first, *args, **plain(kwargs))
        return getattr(first, name)(*args, **plain(kwargs))

    return call


def _in_place(name: str) -> Spelling | None:
    """``silu_`` and its like: the function with ``inplace=True``."""
    base = name.removesuffix("_")
    if base == name or base not in _SAME_ORDER:
        return None
    return lambda *args: getattr(F, base)(*args, inplace=True)
