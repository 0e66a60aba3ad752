"""Deep copies of modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


def deepcopy(value: T, memo: dict[int, Any] | None = None) -> T:
    """A deep copy, also of what holds tensors that were computed with gradients: their values.

    Torch copies leaves only. A module holds others where a hook computes its weight, or where ``forward`` has kept a
    result.

    Args:
        value: of any kind.
        memo: by identity, what takes the place of what.
    """
    with _Values():
        return copy.deepcopy(value, memo)


class _Values(TorchFunctionMode):
    """Tensors that are no leaves are copied without their history."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))
