"""What a forward pass holds and moves, found by watching its operations."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Traffic:
    """Of one forward pass in PyTorch's eager mode.

    Attributes:
        moved: bytes that operations read and write, every operand and result counted once an operation. What kernels
            keep in caches or read twice is left aside.
        peak: bytes of the largest set of results alive at once, on top of weights and inputs. Scratch memory inside
            kernels is left aside.
    """

    moved: int
    peak: int


def traffic(run: Callable[[], Any]) -> Traffic:
    """Watch one eager forward pass."""
    with _Watch() as watch:
        result = run()
    del result
    return Traffic(watch.moved, watch.peak)


class _Watch(TorchDispatchMode):
    """Sees every operation with its operands and results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = 0
        self.peak = 0
        self._alive = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operands = _tensors((args, kwargs))
        result = func(*args, **(kwargs or {}))
        made = _tensors(result)
        storages = {tensor.untyped_storage() for tensor in operands}
        fresh = [tensor for tensor in made if tensor.untyped_storage() not in storages]
        if fresh or func._schema.is_mutable:  # others give another view of what is there
            self.moved += sum(tensor.nbytes for tensor in (*operands, *made))
        for tensor in fresh:
            self._hold(tensor.untyped_storage())
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self._alive -= size


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
