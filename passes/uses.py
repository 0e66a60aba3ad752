"""Which parameters and buffers of a running model are used, and which are only asked for their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

#: What they tell of a tensor stays the same without some of its channels.
_NO_SIZE = frozenset(
    {
        "device", "dtype", "layout", "requires_grad", "is_leaf", "is_cuda", "is_meta", "is_sparse", "is_floating_point",
        "is_complex", "get_device", "dim", "ndim", "element_size", "itemsize", "__hash__",
    }
)  # fmt: skip
#: They take no more than that from any tensor but the first.
_LIKE = frozenset({"to", "type_as"})


class Uses:
    """Notes uses of the parameters and buffers of a model.

    Args:
        model: the model.

    Attributes:
        used: the names of those that operations read.
        sized: the names of those that functions of torch get, some of which read no more than a size.
    """

    def __init__(self, model: nn.Module) -> None:
        self.used: set[str] = set()
        self.sized: set[str] = set()
        self._paused = 0
        self._owners: dict[int, list[str]] = {}
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in tensors:
            self._owners.setdefault(_storage(tensor), []).append(name)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what happens meanwhile, in this thread."""
        with _Operations(self), _Functions(self):
            yield

    def pause(self) -> None:
        """Note nothing until :meth:`resume` was called as often."""
        self._paused += 1

    def resume(self) -> None:
        """Go on."""
        self._paused -= 1

    def names(self, values: Any) -> set[str]:
        """The parameters and buffers that share memory with one of these tensors."""
        leaves = (leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor))
        return {name for leaf in leaves for name in self._owners.get(_storage(leaf), ())}

    def note(self, into: set[str], values: Any) -> None:
        """Note the names of those among some values."""
        if not self._paused:
            into |= self.names(values)

    def named(self, modules: Iterable[nn.Module]) -> set[str]:
        """The parameters and buffers of some modules."""
        return self.names([tensor for m in modules for tensor in (*m.parameters(), *m.buffers())])


class _Operations(TorchDispatchMode):
    """Sees every operation, also those inside of functions."""

    supports_higher_order_operators = True

    def __init__(self, uses: Uses) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no annotations
        self._uses = uses

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._uses.note(self._uses.used, (args, kwargs))
        args, kwargs = _below(self, func, args, kwargs)
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """Sees what is read of a tensor without an operation."""

    def __init__(self, uses: Uses) -> None:
        super().__init__()
        self._uses = uses

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = _name(func)
        if name not in _NO_SIZE:
            self._uses.note(self._uses.sized, args[:1] if name in _LIKE else (args, kwargs))
        args, kwargs = _below(self, func, args, kwargs)
        return func(*args, **kwargs)


def _below(mode: TorchDispatchMode | TorchFunctionMode, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a function; an operator such as ``torch.cond`` runs the functions among them in the mode too."""

    def in_mode(value: Any) -> Any:
        if not isinstance(value, (FunctionType, MethodType, nn.Module)):
            return value

        def run(*inner: Any, **named: Any) -> Any:
            with mode:
                return value(*inner, **named)

        return run

    if not isinstance(func, HigherOrderOperator):
        return args, kwargs or {}
    return pytree.tree_map(in_mode, args), pytree.tree_map(in_mode, kwargs or {})


def _name(function: Any) -> str:
    """The name of a function, of a method, or of the attribute that a getter gets."""
    name = getattr(function, "__name__", "")
    return str(function.__self__.__name__ if name == "__get__" else name)


def _storage(tensor: torch.Tensor) -> int:
    """What tensors that share memory have in common; for one without memory a number that no other has."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # what torch raises for sparse tensors, and inside of torch.func
        return -id(tensor)
