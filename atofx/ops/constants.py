"""Real values of tensors that depend on no input and no parameter: index buffers, arange and the like."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from atofx.ops.inplace import mutated_argument

#: Node meta: the parameter, buffer or constant that a node names.
TENSOR = "atofx.tensor"
#: Node meta: the value of a node if it is a constant, None otherwise; made when it is first asked for.
CONSTANT = "atofx.constant"

_LIMIT = 1 << 22
_RANDOM = frozenset(
    {
        "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial",
        "normal", "poisson", "dropout", "empty", "empty_like", "new_empty", "empty_strided",
    }
)  # fmt: skip


def constant_value(argument: Any) -> torch.Tensor | None:
    """The value of a node (or literal) if it is a constant, else None."""
    if isinstance(argument, torch.Tensor):
        return argument
    if isinstance(argument, (list, tuple)):
        return torch.tensor(argument)
    if not isinstance(argument, fx.Node):
        return None
    value = _cached(argument)
    return value if isinstance(value, torch.Tensor) else None


def _cached(node: fx.Node) -> Any:
    if CONSTANT not in node.meta:
        value = _evaluate(node)
        unknown = any(tensor.is_meta for tensor in _tensors_of(value))  # shapes are known, values are not
        node.meta[CONSTANT] = None if unknown else value
    return node.meta[CONSTANT]


def _evaluate(node: fx.Node) -> Any:
    value = node.meta.get("val")
    if not _tensors_of(value):
        return value  # sizes and numbers, as they are at the example input
    if sum(tensor.numel() for tensor in _tensors_of(value)) > _LIMIT or is_written(node):
        return None
    if node.op == "get_attr":
        tensor = node.meta.get(TENSOR)
        return None if isinstance(tensor, nn.Parameter) else tensor
    if node.op not in ("call_function", "call_method"):
        return None
    if getattr(node.target, "__name__", node.target) in _RANDOM or mutated_argument(node, None) is not None:
        return None
    args = fx.node.map_arg((node.args, dict(node.kwargs)), _lookup)
    if _missing((node.args, dict(node.kwargs)), args):
        return None
    positional, keywords = args
    keywords = {k: ("cpu" if isinstance(v, torch.device) and v.type == "meta" else v) for k, v in keywords.items()}
    try:
        if node.op == "call_function":
            return node.target(*positional, **keywords)  # type: ignore[operator]
        return getattr(positional[0], str(node.target))(*positional[1:], **keywords)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None


def is_written(node: fx.Node) -> bool:
    """Whether the memory of a node's tensors is written to, through them or through any view of the same memory."""
    memory = _memories(node)
    root = node
    while (source := next((n for n in root.all_input_nodes if memory & _memories(n)), None)) is not None:
        root = source
    todo = [root]
    while todo:
        view = todo.pop()
        if any(mutated_argument(user, None) is view for user in view.users):
            return True
        same = [user for user in view.users if memory & _memories(user)]
        if any(user.op == "call_module" for user in same):  # it may work in place
            return True
        todo += same
    return False


def memory_of(node: fx.Node) -> int | None:
    """Which memory a node's tensor lies in at the example, None for other nodes; views share it."""
    value = node.meta.get("val")
    return _memory(value) if isinstance(value, torch.Tensor) else None


def _memories(node: fx.Node) -> frozenset[int]:
    """Those of all tensors in a node's value: the pieces of a split lie in the memory of the whole."""
    return frozenset(map(_memory, _tensors_of(node.meta.get("val"))))


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [tensor for item in value for tensor in _tensors_of(item)] if isinstance(value, (tuple, list)) else []


def _lookup(node: fx.Node) -> Any:
    value = node.meta.get("val")
    return _cached(node) if _tensors_of(value) else value


def _missing(original: Any, resolved: Any) -> bool:
    """Whether a node of tensors had no constant value."""
    if isinstance(original, fx.Node):
        return bool(_tensors_of(original.meta.get("val"))) and resolved is None
    if isinstance(original, (tuple, list)):
        return any(_missing(o, r) for o, r in zip(original, resolved, strict=True))
    if isinstance(original, dict):
        return any(_missing(original[k], resolved[k]) for k in original)
    if isinstance(original, slice):
        return any(_missing(getattr(original, end), getattr(resolved, end)) for end in ("start", "stop", "step"))
    return False
