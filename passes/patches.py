"""While tracing, functions that fx does not see become nodes: torch's factories, Python's math."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import fx

from atofx.errors import TraceError
from atofx.ir.values import holds
from atofx.passes.place import place

_FACTORIES = ("zeros", "ones", "full", "empty", "rand", "randn", "arange", "linspace", "eye")
_FROM_VALUES = ("tensor", "as_tensor")


class Recorder(Protocol):
    """What makes the nodes."""

    @property
    def inside_evaluation(self) -> bool:
        """Whether a node is evaluated right now."""

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """A new node's proxy."""


@contextmanager
def factories_as_nodes(tracer: Recorder) -> Iterator[None]:
    """While tracing, tensors made in ``forward`` become nodes: their sizes may be proxies, which torch refuses.

    Those made of plain values stay what they are.
    """
    originals = {name: getattr(torch, name) for name in (*_FACTORIES, *_FROM_VALUES)}

    def node_for(original: Any) -> Any:
        def factory(*args: Any, **kwargs: Any) -> Any:
            device = kwargs.get("device")
            on_meta = device is not None and not isinstance(device, fx.Proxy) and str(device) == "meta"
            plain = original.__name__ in _FROM_VALUES and not holds(args, fx.Proxy)
            if tracer.inside_evaluation or on_meta or plain:
                return original(*args, **kwargs)
            return tracer.create_proxy("call_function", original, args, kwargs)

        return factory

    patched = {name: node_for(original) for name, original in originals.items()}
    with _imports_see(originals, patched):
        try:
            _put(patched)
            yield
        finally:
            _put(originals)


def _put(functions: Mapping[str, Any]) -> None:
    for name, function in functions.items():
        setattr(torch, name, function)


@contextmanager
def _imports_see(originals: Mapping[str, Any], patched: Mapping[str, Any]) -> Iterator[None]:
    """While tracing, files that are imported for the first time find torch's own factories.

    Evaluating an operation may import torch's compiler, which notes the functions that it finds, for as long as the
    process lives.
    """
    depth = 0

    @contextmanager
    def importing() -> Iterator[None]:
        nonlocal depth
        depth += 1
        _put(originals)
        try:
            yield
        finally:
            depth -= 1
            if not depth:
                _put(patched)

    finder = _Finder(importing)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Python asks it first for what has not been imported yet.

    Args:
        importing: what a file is run in.
    """

    def __init__(self, importing: Callable[[], AbstractContextManager[None]]) -> None:
        self._importing = importing

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the others find."""
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if isinstance(spec.loader, Loader):
                    spec.loader = _Within(spec.loader, self._importing)
                return spec
        return None


class _Within(Loader):
    """Runs a file in a context, and leaves the module with its own loader."""

    def __init__(self, own: Loader, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._own = own
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the own loader does."""
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the own loader does, in the context."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        module.__loader__ = self._own
        with self._context():
            self._own.exec_module(module)


@contextmanager
def math_as_nodes(tracer: Recorder) -> Iterator[None]:
    """While tracing, Python's math functions of a proxy become nodes, as fx makes them, but with fewer steps.

    Where a file has imported one by name, fx finds and wraps it there.
    """
    originals = {name: f for name, f in vars(math).items() if not name.startswith("_") and callable(f)}

    def node_for(original: Any) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            if not holds((args, kwargs), fx.Proxy):
                return original(*args, **kwargs)
            return tracer.create_proxy("call_function", original, args, kwargs)

        return function

    try:
        vars(math).update((name, node_for(original)) for name, original in originals.items())
        yield
    finally:
        vars(math).update(originals)


@contextmanager
def autocast_refused(tracer: Recorder) -> Iterator[None]:
    """While tracing, blocks that compute in other types are refused: a graph has no blocks.

    Those that are not enabled are no blocks as long as the model is not called within another.
    """
    enter: Callable[[Any], Any] = torch.autocast.__enter__

    def refused(block: Any) -> Any:
        if block._enabled and not tracer.inside_evaluation:
            raise TraceError(
                f"the model computes in {block.fast_dtype} under torch.autocast{place()}, which a graph does not; put "
                "the block around the call of the model"
            )
        return enter(block)

    torch.autocast.__enter__ = refused  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]
