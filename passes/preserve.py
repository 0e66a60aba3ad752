"""Leave a model as it was, whatever its ``forward`` stores on it while it is traced or run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """On exit every module has its attributes again, and every list, dict and set among them its contents.

    A ``forward`` that keeps results on its modules (a cache, the last shapes seen) would otherwise leave traced values
    there.
    """
    before = [(vars(m), dict(vars(m)), _contents(vars(m))) for m in model.modules()]
    try:
        yield
    finally:
        for live, attributes, contents in before:
            live.clear()
            live.update(attributes)
            for container, items in contents:
                _refill(container, items)


def _contents(attributes: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(v, v.copy()) for v in attributes.values() if isinstance(v, (list, dict, set))]


def _refill(container: Any, items: Any) -> None:
    if type(container) is type(items) and _identical(container, items):
        return
    container.clear()
    (container.extend if isinstance(container, list) else container.update)(items)


def _identical(container: Any, items: Any) -> bool:
    """Whether a container still holds the very same things."""
    if len(container) != len(items):
        return False
    if isinstance(container, dict):
        return all(a is b and container[a] is items[b] for a, b in zip(container, items, strict=True))
    return all(a is b for a, b in zip(container, items, strict=True))
