"""What code outside of some submodules knows of their insides and puts there, found while the model runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from atofx.ops import REGISTRY
from atofx.passes.restore import Before, Change
from atofx.passes.surroundings import OF_TORCH, surroundings
from atofx.passes.uses import Uses

#: Attributes of these types hold no size.
_NO_NUMBERS = (bool, str, type(None))
#: Who reads or sets: one of the submodules, or the code outside of all.
_OUTER = ""


@dataclass(frozen=True)
class _Attribute:
    """One attribute of a module, which is known by its identity."""

    module: int
    key: str


#: What torch reads of a module first when it is called.
_CALLED = "_call_impl"


class Insides:
    """Tells code inside of some submodules from the code outside, and notes what the one knows of the other.

    Args:
        model: a copy of the user's, which is about to run.
        paths: qualified names of the submodules.
        start: what the model and its surroundings hold now.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str], start: Before) -> None:
        self._model = model
        self._start = start
        self._uses = Uses(model)
        self._modules = {id(module): (name, module) for name, module in model.named_modules()}
        self._within: dict[int, set[str]] = {key: set() for key in self._modules}
        for path in paths:
            for module in model.get_submodule(path).modules():
                self._within[id(module)].add(path)
        self._holders = {id(d): key for key, (_, m) in self._modules.items() for d in (vars(m), m._buffers)}
        self._running: list[str] = []
        self._paused = False
        self._before = start
        self._readers: dict[_Attribute, set[str]] = {}  # those that the module is not part of
        self._setters: dict[_Attribute, set[str]] = {}
        self._unfit: dict[str, str] = {}
        self._own_hooks: set[int] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what happens meanwhile."""
        with _attributes_watched(self), self._uses.watched():
            yield

    def disregard(self, hook: RemovableHandle) -> None:
        """A hook is not the model's."""
        self._own_hooks.add(hook.id)

    def enter(self, path: str) -> None:
        """A submodule is called."""
        self._uses.pause()
        if not self._running:
            self._look(self._start, _OUTER, path)
            self._before = self._taken()
        self._running.append(path)

    def leave(self) -> None:
        """The submodule called last is done."""
        path = self._running.pop()
        if not self._running:
            self._look(self._before, path, path)
        self._uses.resume()

    @property
    def used(self) -> frozenset[str]:
        """The parameters and buffers that operations outside read."""
        return frozenset(self._uses.used)

    @property
    def sized(self) -> frozenset[str]:
        """The parameters and buffers whose sizes are read outside, from themselves or from their layer."""
        return frozenset(self._uses.sized | self._uses.named(self._layers_read()))

    @property
    def unfit(self) -> dict[str, str]:
        """The submodules that graphs cannot stand for -> why.

        The outside reads what their ``forward`` has left, or sets what that may read, or reads the size of a layer
        that has no tensors to keep whole. Or a module inside has a hook when it is called, which may hand to the
        outside what the module gets and gives.
        """
        found = dict(self._unfit)
        for attribute, setters in self._setters.items():
            name, readers = self._name(attribute), self._read_by(attribute)
            left = setters - {_OUTER} if readers else set()
            given = {path for path in self._within[attribute.module] if setters - {path}}
            _add(found, left, f"code outside of it reads {name!r}, which its forward sets")
            _add(found, (given | readers) - {_OUTER}, f"code outside of it sets {name!r}, which its forward may read")
        for module in self._layers_read():
            if not self._uses.named([module]):
                why = f"code outside of it reads the size of {self._modules[id(module)][0]!r}, which has no parameters"
                _add(found, self._within[id(module)], why)
        return found

    def note_read(self, module: nn.Module, key: str) -> None:
        """An attribute of a module is about to be read."""
        if key == _CALLED:
            self._note_hooks(module)
        within = self._within.get(id(module))
        if within is None or self._paused or not within.isdisjoint(self._running):
            return
        if key == "__dict__" and str(sys._getframe(2).f_globals.get("__name__")).startswith("torch.nn.modules."):
            return  # where torch looks an attribute up, which has been noted
        self._readers.setdefault(_Attribute(id(module), key), set()).add(self._who)

    def _note_hooks(self, module: nn.Module) -> None:
        """A module is about to be called; hooks on a submodule itself see no more of it than the outside does."""
        within = self._within.get(id(module), set())
        if within and any(hooks.keys() - self._own_hooks for hooks in _hooks(module)):
            name = self._modules[id(module)][0]
            parts = {path for path in within if self._model.get_submodule(path) is not module}
            _add(
                self._unfit,
                parts,
                f"{name!r} inside of it has a hook, which may read or change what its graph passes on",
            )

    def note_set(self, module: nn.Module, key: str) -> None:
        """An attribute of a module is about to be set, perhaps to the number that it is already."""
        if id(module) in self._modules and key not in OF_TORCH:
            self._setters.setdefault(_Attribute(id(module), key), set()).add(self._who)

    @property
    def _who(self) -> str:
        return self._running[0] if self._running else _OUTER

    def _taken(self) -> Before:
        self._paused = True
        try:
            return Before(self._model)
        finally:
            self._paused = False

    def _look(self, before: Before, who: str, path: str) -> None:
        """Note who has changed something since some time, at the begin or the end of a call of a submodule."""
        self._paused = True
        try:
            for change in before.changes():
                attribute = self._attribute(change)
                if attribute is None:
                    self._note_beside(change, who, path)
                elif who != _OUTER or attribute not in self._setters:
                    self._setters.setdefault(attribute, set()).add(who)
        finally:
            self._paused = False

    def _note_beside(self, change: Change, who: str, path: str) -> None:
        """A class or a file has changed, which anyone may read unseen."""
        if who != _OUTER:
            why = f"its forward changes {change.name!r}, which code outside of it may read"
        elif any(change.module == n and change.key in m for n, m in surroundings(self._of(path))):
            why = f"code outside of it sets {change.name!r}, which its forward may read"
        else:
            return
        self._unfit.setdefault(path, why)

    def _of(self, path: str) -> Iterable[nn.Module]:
        return self._model.get_submodule(path).modules()

    def _attribute(self, change: Change) -> _Attribute | None:
        module = self._holders.get(id(change.holder))
        return None if module is None else _Attribute(module, change.key)

    def _name(self, attribute: _Attribute) -> str:
        name, _ = self._modules[attribute.module]
        return f"{name}.{attribute.key}" if name else attribute.key

    def _read_by(self, attribute: _Attribute) -> set[str]:
        is_buffer = attribute.key in self._modules[attribute.module][1]._buffers
        keys = (attribute.key, "__dict__", *(["_buffers"] if is_buffer else []))
        return set().union(*(self._readers.get(_Attribute(attribute.module, key), ()) for key in keys))

    def _layers_read(self) -> list[nn.Module]:
        """The layers inside from which the outside reads numbers that other sizes would change."""
        found = {}
        for read in self._readers:
            _, module = self._modules[read.module]
            spelling = REGISTRY.module(module) if self._within[read.module] else None
            if spelling is not None and spelling.configure is not None and _may_be_size(module, read.key):
                found[read.module] = module
        return list(found.values())


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


def _hooks(module: nn.Module) -> Iterator[Mapping[int, Any]]:
    """The hooks that a call of a module runs, or that its gradients will: its own and those of all modules."""
    yield from (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    yield from (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
    yield from (torch_module._global_backward_pre_hooks, torch_module._global_backward_hooks)


def _add(found: dict[str, str], paths: set[str], why: str) -> None:
    for path in paths:
        found.setdefault(path, why)


def _may_be_size(module: nn.Module, key: str) -> bool:
    if key == "__dict__":
        return True
    return key in vars(module).keys() - OF_TORCH and not isinstance(vars(module)[key], _NO_NUMBERS)
