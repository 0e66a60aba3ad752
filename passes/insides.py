"""What code outside of some submodules sees of their insides and puts there, found while the model runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from atofx.ops import REGISTRY
from atofx.passes.restore import OF_TORCH, Before, Change

#: What they tell of a tensor stays the same without some of its channels.
_NO_SIZE = frozenset(
    {
        "device", "dtype", "layout", "requires_grad", "is_leaf", "is_cuda", "is_meta", "is_sparse", "is_floating_point",
        "is_complex", "get_device", "dim", "ndim", "element_size", "itemsize", "__hash__",
    }
)  # fmt: skip
#: They take no more than that from any tensor but the first.
_LIKE = frozenset({"to", "type_as"})
#: Attributes of other types hold no size.
_NO_NUMBERS = (bool, str, type(None))


@dataclass(frozen=True)
class _Attribute:
    """One attribute of a module, which is known by its identity."""

    module: int
    key: str


class Insides:
    """Tells code inside of some submodules from the code outside, and notes what the one knows of the other.

    Args:
        model: a copy of the user's, which is about to run.
        paths: qualified names of the submodules.
        start: what the model and its surroundings hold now.

    Attributes:
        used: parameters and buffers that operations outside read.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str], start: Before) -> None:
        self.used: set[str] = set()
        self._sized: set[str] = set()
        self._model = model
        self._start = start
        self._modules = {id(module): (name, module) for name, module in model.named_modules()}
        self._within: dict[int, set[str]] = {key: set() for key in self._modules}
        for path in paths:
            for module in model.get_submodule(path).modules():
                self._within[id(module)].add(path)
        self._holders = {id(d): key for key, (_, m) in self._modules.items() for d in (vars(m), m._buffers)}
        self._owners: dict[int, list[str]] = {}
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in tensors:
            self._owners.setdefault(_storage(tensor), []).append(name)
        self._running: list[str] = []
        self._paused = False
        self._before = start
        self._reads: set[_Attribute] = set()
        self._left: dict[_Attribute, set[str]] = {}
        self._unfit: dict[str, str] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what happens meanwhile."""
        with ExitStack() as stack:
            stack.enter_context(_attributes_watched(self))
            stack.enter_context(_Operations(self))
            stack.enter_context(_Functions(self))
            yield

    @property
    def inside(self) -> bool:
        """Whether one of the submodules is running."""
        return bool(self._running)

    def enter(self, path: str) -> None:
        """A submodule is called."""
        self._running.append(path)
        if len(self._running) == 1:
            with self._pause():
                changed = {a for c in self._start.changes() if (a := self._attribute(c)) is not None}
                for attribute in changed - self._left.keys():
                    if path in self._within[attribute.module]:
                        self._given(attribute, path)
                self._before = Before(self._model)

    def leave(self) -> None:
        """The submodule called last is done."""
        path = self._running.pop()
        if not self._running:
            with self._pause():
                for change in self._before.changes():
                    attribute = self._attribute(change)
                    if attribute is None:
                        why = f"its forward changes {change.name!r}, which code outside of it may read"
                        self._unfit.setdefault(path, why)
                    else:
                        self._left.setdefault(attribute, set()).add(path)

    @property
    def sized(self) -> frozenset[str]:
        """The parameters and buffers whose sizes are read outside, from themselves or from their layer."""
        return frozenset(self._sized.union(*(self._tensors(module) for module in self._layers_read())))

    @property
    def unfit(self) -> dict[str, str]:
        """The submodules that graphs cannot stand for, with reasons.

        The outside reads what their ``forward`` has left, or sets what that may read, or reads the size of a layer
        that has no tensors to keep whole.
        """
        found = dict(self._unfit)
        for attribute, paths in self._left.items():
            if self._is_read(attribute):
                why = f"code outside of it reads {self._name(attribute)!r}, which its forward sets"
                found.update(dict.fromkeys(paths - found.keys(), why))
        for module in self._layers_read():
            if not self._tensors(module):
                why = f"code outside of it reads the size of {self._modules[id(module)][0]!r}, which has no parameters"
                found.update(dict.fromkeys(self._within[id(module)] - found.keys(), why))
        return found

    def note_read(self, module: nn.Module, key: str) -> None:
        """An attribute of a module is about to be read."""
        within = self._within.get(id(module))
        if within is None or self._paused or self._runs_one_of(within):
            return
        if key == "__dict__" and str(sys._getframe(2).f_globals.get("__name__")).startswith("torch.nn.modules."):
            return  # where torch looks an attribute up, which has been noted
        self._reads.add(_Attribute(id(module), key))

    def note_set(self, module: nn.Module, key: str) -> None:
        """An attribute of a module is about to be set, perhaps to the number that it is already."""
        within = self._within.get(id(module))
        if within is None or key in OF_TORCH:
            return
        attribute = _Attribute(id(module), key)
        if self._running:
            self._left.setdefault(attribute, set()).add(self._running[0])
        if not self._runs_one_of(within):
            for path in within:
                self._given(attribute, path)

    def note_tensors(self, values: Any, *, operation: bool) -> None:
        """An operation reads tensors, or a function may read no more than their sizes."""
        if not self.inside:
            names = self.used if operation else self._sized
            for leaf in pytree.tree_leaves(values):
                if isinstance(leaf, torch.Tensor):
                    names.update(self._owners.get(_storage(leaf), ()))

    def _runs_one_of(self, paths: set[str]) -> bool:
        return self.inside and self._running[0] in paths

    def _given(self, attribute: _Attribute, path: str) -> None:
        why = f"code outside of it sets {self._name(attribute)!r}, which its forward may read"
        self._unfit.setdefault(path, why)

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _attribute(self, change: Change) -> _Attribute | None:
        module = self._holders.get(id(change.holder))
        return None if module is None else _Attribute(module, change.key)

    def _name(self, attribute: _Attribute) -> str:
        name, _ = self._modules[attribute.module]
        return f"{name}.{attribute.key}" if name else attribute.key

    def _is_read(self, attribute: _Attribute) -> bool:
        own = (attribute.key, "__dict__", *(["_buffers"] if self._is_buffer(attribute) else []))
        return any(_Attribute(attribute.module, key) in self._reads for key in own)

    def _is_buffer(self, attribute: _Attribute) -> bool:
        return attribute.key in self._modules[attribute.module][1]._buffers

    def _layers_read(self) -> list[nn.Module]:
        """The layers inside from which the outside reads numbers that other sizes would change."""
        found = {}
        for read in self._reads:
            _, module = self._modules[read.module]
            spelling = REGISTRY.module(module) if self._within[read.module] else None
            if spelling is not None and spelling.configure is not None and _may_be_size(module, read.key):
                found[read.module] = module
        return list(found.values())

    def _tensors(self, module: nn.Module) -> set[str]:
        tensors = [*module.parameters(), *module.buffers()]
        return {name for tensor in tensors for name in self._owners.get(_storage(tensor), ())}


class _Operations(TorchDispatchMode):
    """Notes the tensors that operations read."""

    def __init__(self, insides: Insides) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._insides = insides

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._insides.note_tensors((args, kwargs), operation=True)
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    """Notes the tensors whose sizes are read, which runs no operation."""

    def __init__(self, insides: Insides) -> None:
        super().__init__()
        self._insides = insides

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = _name(func)
        if name not in _NO_SIZE:
            self._insides.note_tensors(args[:1] if name in _LIKE else (args, kwargs), operation=False)
        return func(*args, **(kwargs or {}))


@contextmanager
def _attributes_watched(insides: Insides) -> Iterator[None]:
    """While the model runs, every attribute of a module that is read or set is noted before that happens.

    The class of all modules is patched, not that of each: code that asks for a module's type must see the one it has.
    """
    read, put = nn.Module.__getattribute__, nn.Module.__setattr__
    was_there = "__getattribute__" in vars(nn.Module)

    def watched_read(module: nn.Module, key: str) -> Any:
        insides.note_read(module, key)
        return read(module, key)

    def watched_put(module: nn.Module, key: str, value: Any) -> None:
        insides.note_set(module, key)
        put(module, key, value)

    patched: Any = nn.Module
    patched.__getattribute__, patched.__setattr__ = watched_read, watched_put
    try:
        yield
    finally:
        patched.__setattr__ = put
        if was_there:
            patched.__getattribute__ = read
        else:
            del patched.__getattribute__


def _may_be_size(module: nn.Module, key: str) -> bool:
    if key == "__dict__":
        return True
    return key in vars(module).keys() - OF_TORCH and not isinstance(vars(module)[key], _NO_NUMBERS)


def _name(function: Any) -> str:
    """The name of a function, of a method, or of the attribute that a getter gets."""
    name = getattr(function, "__name__", "")
    return str(function.__self__.__name__ if name == "__get__" else name)


def _storage(tensor: torch.Tensor) -> int:
    """What tensors that share memory have in common; a number that no storage has for one without."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse ones, and those of torch.func
        return 0
