"""Undo what a model's own ``forward`` stores on its modules while it is traced."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any

from torch import nn

from atofx.passes.base import modules_by_name


@dataclass(frozen=True, eq=False)
class Change:
    """An attribute of a module, or an entry of its buffers, that is not what it was.

    Attributes:
        module: qualified name of the module.
        holder: the dict that holds it.
        key: its name there.
        is_buffer: whether it is a buffer.
    """

    module: str
    holder: dict[str, Any]
    key: str
    is_buffer: bool

    @property
    def name(self) -> str:
        """Its qualified name."""
        return f"{self.module}.{self.key}" if self.module else self.key


class Before:
    """What the modules of a model held at some time.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = {id(module): (name, module) for name, module in reversed(modules_by_name(model))}
        self._attributes = [(name, vars(module), dict(vars(module))) for name, module in modules.values()]
        containers = [v for _, _, held in self._attributes for v in held.values() if type(v) in _KINDS]
        self._filled = [(container, container.copy()) for container in containers if container]
        self._empty = [container for container in containers if not container]  # as most are

    def changes(self) -> list[Change]:
        """What is different now; of a list, dict or set that holds something else, the attribute that it is.

        Parameters, submodules, hooks and the mode are left out.
        """
        other = {id(c): content for c, content in self._filled if not _same(c, content)}
        other |= {id(container): type(container)() for container in self._empty if container}
        found = []
        for name, live, held in self._attributes:
            if not other and _is_as_it_was(live, held):
                continue
            for key, value in live.items():
                if key in held and held[key] is value and id(value) not in other:
                    continue
                if key == "_buffers":
                    before = other.get(id(value), {})
                    changed = [b for b in value if value[b] is not before.get(b)]
                    found += [Change(name, value, b, is_buffer=True) for b in changed]
                elif key not in _OF_TORCH:
                    found.append(Change(name, live, key, is_buffer=False))
        return found

    def restore(self) -> None:
        """Put everything back."""
        for _, live, attributes in self._attributes:
            if not _is_as_it_was(live, attributes):
                live.clear()
                live.update(attributes)
        for container in filter(None, self._empty):
            container.clear()
        for container, content in self._filled:
            if not _same(container, content):
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)


def _is_as_it_was(live: dict[str, Any], held: dict[str, Any]) -> bool:
    return list(live) == list(held) and all(map(is_, live.values(), held.values()))


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[Before]:
    """Put back every module's attributes and hooks, and what its lists, dicts and sets hold.

    Some models keep an index or a mask they have made for the next call (``self.cache = …``); while tracing that would
    be a proxy, which must not outlive the tracer.
    """
    before = Before(model)
    try:
        yield before
    finally:
        before.restore()


_OF_TORCH = frozenset(vars(nn.Module()))
_KINDS = frozenset({dict, OrderedDict, list, set})  # hooks are kept in ordered dicts


def _same(container: Any, content: Any) -> bool:
    if len(container) != len(content):
        return False
    if isinstance(container, dict):
        return all(map(is_, container, content)) and all(map(is_, container.values(), content.values()))
    if isinstance(container, list):
        return all(map(is_, container, content))
    return bool(container == content)
