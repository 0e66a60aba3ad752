"""What a model keeps from one call to the next, which a graph cannot: it computes every call alike."""

from __future__ import annotations

import hashlib
import inspect
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from atofx.errors import StateError
from atofx.ir.values import holds
from atofx.nn.sizes import expect_decision
from atofx.ops.arguments import target_name
from atofx.ops.constants import constant_value, memory_of
from atofx.ops.inplace import mutated_argument
from atofx.passes.proxy import concrete
from atofx.passes.restore import Before, Change, entries, held_by
from atofx.passes.tracer import Tracer

#: How many calls are traced after the first, as long as each leaves other numbers than the one before.
_CALLS = 3
#: They take from other tensors than the first no more than size, dtype and place.
_LIKE = frozenset({"to", "type_as", "expand_as", "view_as", "reshape_as"})
#: They take no more from any.
_NEW = frozenset(
    {
        "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
        "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
    }
)  # fmt: skip


def refuse_state(model: nn.Module, tracer: Tracer, graph: fx.Graph, before: Before, *, buffers: bool = True) -> None:
    """Find out whether a call computes something else because of what those before it left, by tracing it too.

    Writing is no harm, nor is keeping what is the same for every call, such as an index or a mask of the image's size.

    Args:
        model: as the traced call left it; what it left is changed here.
        tracer: that traced the call.
        graph: of the call.
        before: what the model held before the call.
        buffers: whether buffers that were put in the place of others count.

    Raises:
        StateError: it does, or a tensor that is neither parameter nor buffer is changed in place.
    """
    _refuse(model, before.written(), only_buffers=False)
    names: dict[Hashable, int] = {}
    known: dict[int, _Kept] = {}
    forms = _Forms(tracer, names, known)
    changes = _changes(before, buffers=buffers)
    first, left, size = forms.of(graph) if changes else [], _numbers(changes), len(graph.nodes)
    for _ in range(_CALLS if changes else 0):
        before.forget()
        following = _NextCall(tracer, changes, forms)
        forms = _Forms(following, names, known)
        try:
            same = forms.of(following.trace(model)) == first and len(graph.nodes) == size
        except Exception:  # noqa: BLE001 - the model's own code on what it has left: no call like the first, so refused
            same = False
        if not same:
            _refuse(model, [c.name for c in changes], only_buffers=all(c.is_buffer for c in changes))
        changes = _changes(before, buffers=buffers)
        if _numbers(changes) == left:
            break
        left = _numbers(changes)


class _NextCall(Tracer):
    """Traces the call after one that has left something.

    Args:
        before: the tracer of that one.
        changes: what it has left.
        forms: of its graph.
    """

    def __init__(self, before: Tracer, changes: list[Change], forms: _Forms) -> None:
        super().__init__(before.inputs, before.tensors)
        self._changes = changes
        self._before = forms

    def run(self, root: nn.Module, root_fn: Any, signature: inspect.Signature, named: Any) -> Any:
        """The model's ``forward``, on what was left as nodes of this graph."""
        for change in self._changes:
            change.holder[change.key] = self._as_found(change.holder[change.key])
        return super().run(root, root_fn, signature, named)

    def _as_found(self, value: Any) -> Any:
        """What this call finds where the one before it left proxies."""
        if isinstance(value, fx.Proxy):
            now = concrete(value)
            return self._stand_in(value.node, now) if isinstance(now, torch.Tensor) else now
        if isinstance(value, tuple):
            swapped = [self._as_found(entry) for entry in value]
            return type(value)(*swapped) if hasattr(value, "_fields") else type(value)(swapped)
        container = held_by(value)
        if isinstance(container, dict):
            found = {self._as_found(key): self._as_found(entry) for key, entry in container.items()}
            container.clear()
            container.update(found)
        elif isinstance(container, (list, deque)):
            for place, entry in enumerate(list(container)):
                container[place] = self._as_found(entry)
        return value

    def _stand_in(self, node: fx.Node, value: torch.Tensor) -> fx.Proxy:
        """A node for a tensor without elements; for one that depends on nothing, as it is."""
        constant = None if node._erased else constant_value(node)
        tensor = torch.empty_like(value) if constant is None or constant.is_meta else constant.clone()
        number = self._before.unlike_any() if _depends_on_inputs(node) else self._before.numbers[node]
        self._before.known[id(tensor)] = _Kept(tensor, number)
        return self.proxy(self.create_arg(tensor))


def _changes(before: Before, *, buffers: bool) -> list[Change]:
    return [change for change in before.changes() if buffers or not change.is_buffer]


def _refuse(model: nn.Module, names: list[str], *, only_buffers: bool) -> None:
    if names:
        shown = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
        raise StateError(
            f"{type(model).__name__} keeps {shown} from one call to the next and computes with it, which a graph "
            "cannot; take it as an input and return it, or register a buffer and change that in place (copy_, add_)",
            only_buffers=only_buffers,
        )


@dataclass(frozen=True, eq=False)
class _Kept:
    """A tensor that stands where a call has left one, and the number of what that was."""

    tensor: torch.Tensor
    number: int


class _Forms:
    """What the nodes of a graph compute, as numbers that are the same where the same is computed.

    Args:
        tracer: of the graph.
        names: every form there is so far -> its number.
        known: by id, the tensors that the model was given for those it had kept.
    """

    def __init__(self, tracer: Tracer, names: dict[Hashable, int], known: dict[int, _Kept]) -> None:
        self.tracer = tracer
        self._names = names
        self.known = known
        self.numbers: dict[fx.Node, int] = {}

    def of(self, graph: fx.Graph) -> list[int]:
        """The forms of the results, of what is changed beside them, and of calls of modules, which may count."""
        effects = []
        for node in graph.nodes:
            number = self.numbers[node] = self._number_of(node)
            module = self.tracer.leaves.get(str(node.target)) if node.op == "call_module" else None
            written = mutated_argument(node, module)
            beside = False
            while written is not None:  # from here on it, and what it is a view of, are what was written
                self.numbers[written] = number
                beside = beside or written.op in ("get_attr", "placeholder")
                memory = memory_of(written)
                written = next((n for n in written.all_input_nodes if memory_of(n) == memory), None)
            if node.op in ("output", "call_module") or beside:
                effects.append(number)
        return effects

    def _number_of(self, node: fx.Node) -> int:
        tensor = self.tracer.constants.get(str(node.target)) if node.op == "get_attr" else None
        kept = None if tensor is None else self.known.get(id(tensor))
        return self._number(self._form(node)) if kept is None else kept.number

    def _number(self, form: Hashable) -> int:
        return self._names.setdefault(form, len(self._names))

    def unlike_any(self) -> int:
        """A number of its own."""
        return self._number(("unlike any", len(self._names)))

    def _form(self, node: fx.Node) -> Hashable:
        value = node.meta.get("val")
        if node.op in ("placeholder", "output"):
            return (node.op, str(node.target) if node.op == "placeholder" else self._argument(node.args))
        if node.target is expect_decision or not holds(value, torch.Tensor):
            return _plain(value)
        if node.op == "get_attr":
            name = str(node.target)
            return self._constant(self.tracer.constants[name]) if name in self.tracer.constants else (node.op, name)
        constant = constant_value(node) if isinstance(value, torch.Tensor) else None
        if constant is not None and not constant.is_meta:
            return _content(constant)
        return (node.op, node.target, self._argument(node.args), self._argument(node.kwargs))

    def _constant(self, tensor: torch.Tensor) -> Hashable:
        return ("unlike any", len(self._names)) if tensor.is_meta else _content(tensor)

    def _argument(self, argument: Any) -> Hashable:
        if isinstance(argument, fx.Node):
            return self.numbers[argument]
        if isinstance(argument, (tuple, list)):
            return tuple(map(self._argument, argument))
        if isinstance(argument, slice):
            return ("slice", *map(self._argument, (argument.start, argument.stop, argument.step)))
        if isinstance(argument, dict):
            return tuple((key, self._argument(value)) for key, value in argument.items())
        return self._number(_plain(argument))


def _plain(value: Any) -> Hashable:
    return ("plain", repr(value))


def _content(tensor: torch.Tensor) -> Hashable:
    """A tensor by what it holds."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return ("tensor", tensor.shape, tensor.dtype, hashlib.blake2b(data.tobytes()).digest())


def _depends_on_inputs(node: fx.Node) -> bool:
    """Whether the elements of a tensor depend on those of an input, not only on its size, dtype and place."""
    seen, todo = set(), [node]
    while todo:
        found = todo.pop()
        if found in seen or not isinstance(found.meta.get("val"), torch.Tensor):
            continue
        seen.add(found)
        if found.op == "placeholder" or found._erased:  # nobody reads it in this call, and it has lost its arguments
            return True
        name = target_name(found)
        if name not in _NEW:
            todo += found.all_input_nodes[:1] if name in _LIKE else found.all_input_nodes
    return False


def _numbers(changes: list[Change]) -> list[str]:
    """The plain values among what was left."""
    found: list[str] = []
    todo = [change.holder[change.key] for change in changes]
    while todo:
        value = todo.pop()
        container = value if isinstance(value, tuple) else held_by(value)
        if container is not None:
            todo += entries(container)
            continue
        plain = concrete(value) if isinstance(value, fx.Proxy) else value
        if not isinstance(plain, torch.Tensor):
            found.append(repr(plain))
    return found
