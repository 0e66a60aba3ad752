"""Undo what a model's own ``forward`` stores on its modules while it is traced."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

from torch import nn


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """Put back every module's attributes and hooks, and what its lists, dicts and sets hold.

    Some models keep an index or a mask they have made for the next call (``self.cache = …``); while tracing that would
    be a proxy, which must not outlive the tracer.
    """
    before = [(vars(m), dict(vars(m)), _contents(vars(m))) for m in model.modules()]
    try:
        yield
    finally:
        for live, attributes, contents in before:
            if live.keys() != attributes.keys() or not all(map(is_, live.values(), attributes.values())):
                live.clear()
                live.update(attributes)
            for container, content in contents:
                if container or content is not None:  # most were empty, and are
                    _refill(container, content)


_KINDS = frozenset({dict, OrderedDict, list, set})  # hooks are kept in ordered dicts


def _contents(attributes: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Containers and what they hold; None for nothing, as most hold."""
    return [(value, value.copy() if value else None) for value in attributes.values() if type(value) in _KINDS]


def _refill(container: Any, content: Any) -> None:
    if content is None:
        if container:
            container.clear()
        return
    if len(container) == len(content) and _same(container, content):
        return
    container.clear()
    container.extend(content) if isinstance(container, list) else container.update(content)


def _same(container: Any, content: Any) -> bool:
    if isinstance(container, dict):
        return all(k in container and container[k] is v for k, v in content.items())
    if isinstance(container, list):
        return all(a is b for a, b in zip(container, content, strict=True))
    return bool(container == content)
