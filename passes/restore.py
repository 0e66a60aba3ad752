"""Undo what a model's own ``forward`` stores on its modules while it is traced."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

from torch import nn

from atofx.passes.base import modules_by_name


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """Put back every module's attributes and hooks, and what its lists, dicts and sets hold.

    Some models keep an index or a mask they have made for the next call (``self.cache = …``); while tracing that would
    be a proxy, which must not outlive the tracer.
    """
    modules = {id(module): module for _, module in modules_by_name(model)}
    before = [(live, dict(live)) for live in map(vars, modules.values())]
    containers = [v for _, attributes in before for v in attributes.values() if type(v) in _KINDS]
    filled = [(container, container.copy()) for container in containers if container]
    empty = [container for container in containers if not container]  # as most are
    try:
        yield
    finally:
        for live, attributes in before:
            if list(live) != list(attributes) or not all(map(is_, live.values(), attributes.values())):
                live.clear()
                live.update(attributes)
        for container in filter(None, empty):
            container.clear()
        for container, content in filled:
            if len(container) != len(content) or not _same(container, content):
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)


_KINDS = frozenset({dict, OrderedDict, list, set})  # hooks are kept in ordered dicts


def _same(container: Any, content: Any) -> bool:
    if isinstance(container, dict):
        return all(map(is_, container, content)) and all(map(is_, container.values(), content.values()))
    if isinstance(container, list):
        return all(map(is_, container, content))
    return bool(container == content)
