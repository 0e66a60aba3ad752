"""Undo what a model's own ``forward`` stores on its modules, or beside them, while it is traced."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import is_
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from atofx.passes.base import modules_by_name
from atofx.passes.snapshot import Snapshot
from atofx.passes.surroundings import OF_TORCH, PLAIN, cached_functions, own_attributes, reached


@dataclass(frozen=True, eq=False)
class Change:
    """An attribute of a module, or one of its buffers, or something outside of modules, that is not what it was.

    Attributes:
        module: qualified name of the module; of the class or the file for what is outside.
        holder: what holds it.
        key: its name there.
        is_buffer: whether it is a buffer.
    """

    module: str
    holder: MutableMapping[str, Any]
    key: str
    is_buffer: bool

    @property
    def name(self) -> str:
        """Its qualified name."""
        return f"{self.module}.{self.key}" if self.module else self.key


class Before:
    """What the modules of a model and their surroundings held at some time.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = {id(module): (name, module) for name, module in reversed(modules_by_name(model))}
        inside = [(name, vars(module)) for name, module in modules.values()]
        own = [(name, own_attributes(live)) for name, live in inside]
        outside = reached((m for _, m in modules.values()), (value for _, added in own for _, value in added))
        own += [(name, own_attributes(live)) for name, live in outside]
        self._names = [name for name, _ in own]
        self._attributes = Snapshot([live for _, live in (*inside, *outside)])
        plain = [live for _, live in (*inside, *outside) if isinstance(live, dict)]
        of_torch = [live[key] for live in plain for key in _DICTS_OF_TORCH if key in live]
        self._of_torch = Snapshot([container for container in of_torch if container])
        cached = {id(function): function for _, live in outside for function in cached_functions(live)}
        self._cached = [(function, function.cache_info()) for function in cached.values()]
        self._tensors: list[tuple[str, torch.Tensor, int, torch.Tensor]] = []
        containers: list[Any] = []
        seen: set[int] = set()
        for name, added in own:
            for key, value in added:
                containers += _containers(value, seen)
                self._tensors += [
                    (f"{name}.{key}" if name else key, tensor, tensor._version, tensor.detach().clone())
                    for tensor in _tensors(value)
                ]
        self._empty = [container for container in (*of_torch, *containers) if not container]  # as most are
        self._filled = [(container, container.copy()) for container in containers if container]

    def changes(self) -> list[Change]:
        """What is different now; of something that holds values, such as a list, the attribute that it is.

        Parameters, submodules, hooks and the mode are left out.
        """
        other = {id(container): content for container, content in self._changed_containers()}
        if not other and not self._attributes.changed():
            return []
        found = []
        for name, (live, held) in zip(self._names, self._attributes.pairs(), strict=True):
            for key, value in live.items():
                if key in held and held[key] is value and not (other and _holds_any(value, other)):
                    continue
                if key == "_buffers":
                    before = other.get(id(value), {})
                    changed = [b for b in value if value[b] is not before.get(b)]
                    found += [Change(name, value, b, is_buffer=True) for b in changed]
                elif key not in OF_TORCH:
                    found.append(Change(name, live, key, is_buffer=False))
        return found

    def is_set(self, module: nn.Module) -> bool:
        """Whether a module has other attributes now, parameters, buffers and submodules among them."""
        live = vars(module)
        parameters, buffers = live["_parameters"], live["_buffers"]
        return (
            self._attributes.differs(live)
            or (bool(parameters) and self._of_torch.differs(parameters))
            or (bool(buffers) and self._of_torch.differs(buffers))
        )

    def _changed_containers(self) -> list[tuple[Any, Any]]:
        """Containers that hold something else now, and what they held."""
        return [
            *self._of_torch.changed(),
            *((container, type(container)()) for container in filter(None, self._empty)),
            *((container, content) for container, content in self._filled if not _same(container, content)),
        ]

    def written(self) -> list[str]:
        """The names of tensors that are neither parameters nor buffers and were changed in place."""
        return [name for name, tensor, version, _ in self._tensors if tensor._version != version]

    def forget(self) -> None:
        """Clear the caches of functions that were called with something new."""
        for function, info in self._cached:
            if function.cache_info().misses != info.misses:
                function.cache_clear()

    def restore(self) -> None:
        """Put everything back."""
        self.forget()
        for live, held in self._attributes.changed():
            _put_back(live, held)
        for container, content in self._changed_containers():
            container.clear()
            container.extend(content) if isinstance(container, (list, deque)) else container.update(content)
        for _, tensor, version, content in self._tensors:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(content)


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[Before]:
    """Put back every module's attributes and hooks, and what its lists, dicts and the like hold, nested ones too.

    So are the attributes of their classes, and globals that their code names.

    Some models keep an index or a mask they have made for the next call (``self.cache = …``); while tracing that would
    be a proxy, which must not outlive the tracer.
    """
    before = Before(model)
    try:
        yield before
    finally:
        before.restore()


def held_by(value: Any) -> Any | None:
    """The container that holds what belongs to a value and may change: itself, or the attributes of a plain object."""
    if isinstance(value, (dict, list, set, deque)):
        return value if _is_plain(type(value)) else None
    if isinstance(value, SimpleNamespace) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return getattr(value, "__dict__", None)
    return None


def entries(container: Any) -> list[Any]:
    """What a container holds."""
    return list(container.values()) if isinstance(container, dict) else list(container)


@cache
def _is_plain(kind: type) -> bool:
    """Whether a container gives back what was put into it: one that makes entries anew is not for us to fill."""
    own = kind.__mro__[: next(place for place, base in enumerate(kind.__mro__) if base.__module__ in _STANDARD)]
    return not any(name in vars(base) for base in own for name in _ACCESS)


#: Those that hold tensors, submodules and hooks.
_DICTS_OF_TORCH = tuple(key for key, value in vars(nn.Module()).items() if isinstance(value, dict))
_STANDARD = frozenset({"builtins", "collections"})
_ACCESS = ("__getitem__", "__setitem__", "__iter__", "keys", "values", "items", "copy", "clear", "update", "extend")


def _containers(value: Any, seen: set[int]) -> Iterator[Any]:
    """A container and those in it, each once."""
    if type(value) in PLAIN or isinstance(value, (torch.Tensor, nn.Module)):
        return
    container = value if isinstance(value, tuple) else held_by(value)
    if container is None or id(container) in seen:
        return
    seen.add(id(container))
    if not isinstance(container, tuple):
        yield container
    for entry in entries(container):
        yield from _containers(entry, seen)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if not isinstance(value, nn.Parameter):
            yield value
        return
    for container in _containers(value, set()):
        yield from (v for v in entries(container) if isinstance(v, torch.Tensor) and not isinstance(v, nn.Parameter))


def _holds_any(value: Any, others: dict[int, Any]) -> bool:
    return id(value) in others or any(id(container) in others for container in _containers(value, set()))


def _put_back(live: MutableMapping[str, Any], held: Mapping[str, Any]) -> None:
    for key in [key for key in live if key not in held]:
        del live[key]
    for key, value in held.items():
        if key not in live or live[key] is not value:
            live[key] = value


def _same(container: Any, content: Any) -> bool:
    if len(container) != len(content):
        return False
    if isinstance(container, dict):
        return all(map(is_, container, content)) and all(map(is_, container.values(), content.values()))
    if isinstance(container, (list, deque)):
        return all(map(is_, container, content))
    return bool(container == content)
