"""What a model keeps from one call to the next, which a graph cannot: it computes every call alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from atofx.errors import TraceError
from atofx.ops.arguments import target_name
from atofx.passes.proxy import concrete
from atofx.passes.restore import Change
from atofx.passes.tracer import Tracer

#: They take from other tensors than the first no more than size, dtype and place.
_LIKE = frozenset({"to", "type_as", "expand_as", "view_as", "reshape_as"})
#: They take no more from any.
_NEW = frozenset(
    {
        "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
        "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
    }
)  # fmt: skip


class StateError(TraceError):
    """What a call computes depends on attributes that an earlier one left.

    Attributes:
        only_buffers: whether all of them are buffers that ``forward`` puts others in the place of.
    """

    def __init__(self, message: str, *, only_buffers: bool) -> None:
        super().__init__(message)
        self.only_buffers = only_buffers


def refuse_state(model: nn.Module, tracer: Tracer, graph: fx.Graph, changes: Sequence[Change]) -> None:
    """Find out whether the next call would read what this one left, by tracing it too.

    Writing is no harm, nor is keeping what is the same for every input, such as an index or a mask of the image's size.

    Args:
        model: as the traced call left it; what it left is changed here.
        tracer: that traced the call.
        graph: of the call.
        changes: what the call left.

    Raises:
        StateError: it would.
    """
    kept, plain = [], []
    for change in changes:
        left = pytree.tree_leaves(change.holder[change.key])
        tensors = [leaf for leaf in left if isinstance(leaf, fx.Proxy) and isinstance(concrete(leaf), torch.Tensor)]
        if any(_depends_on_inputs(leaf.node) for leaf in tensors):
            kept.append(change)
        elif not tensors:
            plain.append(change)
    if not kept and len(plain) < len(changes):
        return  # what is kept is the same for every input
    for change in changes:
        change.holder[change.key] = pytree.tree_map(_as_found, change.holder[change.key])
    again = Tracer(tracer.inputs, tracer.tensors)
    try:
        second = again.trace(model)
    except Exception:  # noqa: BLE001 - the model's own code, on what it has left
        read = kept
    else:
        read = kept if _unknown_constants(again, second) > _unknown_constants(tracer, graph) else []
        if len(plain) == len(changes) and _form(second) != _form(graph):
            read = plain
    if read:
        names = ", ".join(repr(change.name) for change in read)
        raise StateError(
            f"{type(model).__name__} keeps {names} from one call to the next and computes with it, which a graph "
            "cannot; take it as an input and return it, or register a buffer and change that in place (copy_, add_)",
            only_buffers=all(change.is_buffer for change in read),
        )


def _depends_on_inputs(node: fx.Node) -> bool:
    """Whether the elements of a tensor depend on those of an input, not only on its size, dtype and place."""
    seen, todo = set(), [node]
    while todo:
        found = todo.pop()
        if found in seen or not isinstance(found.meta.get("val"), torch.Tensor):
            continue
        seen.add(found)
        name = target_name(found)
        if found.op == "placeholder" or found._erased:  # nobody reads it in this call, and it has lost its arguments
            return True
        if name not in _NEW:
            todo += found.all_input_nodes[:1] if name in _LIKE else found.all_input_nodes
    return False


def _as_found(leaf: Any) -> Any:
    """What the next call would find where this one left a proxy: tensors that depend on inputs have no elements."""
    if not isinstance(leaf, fx.Proxy):
        return leaf
    value = concrete(leaf)
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_like(value, device="meta" if _depends_on_inputs(leaf.node) else "cpu")


def _unknown_constants(tracer: Tracer, graph: fx.Graph) -> int:
    """How many constants of a graph have no elements: they were computed from what :func:`_as_found` gave."""
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    return sum(tensor.is_meta for name, tensor in tracer.constants.items() if name in names)


def _form(graph: fx.Graph) -> list[Any]:
    """What a graph does, apart from the names of its nodes."""
    place = {node: i for i, node in enumerate(graph.nodes)}
    return [
        (node.op, node.target, repr(fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: f"%{place[n]}")))
        for node in graph.nodes
    ]
