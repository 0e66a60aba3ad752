"""What a process measures of itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

ROUNDS = 3
ENOUGH_SECONDS = 10.0
_FEWER_DIGITS = frozenset({torch.float32, torch.float16, torch.bfloat16})


def peak_gib() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text()
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return round(kib / 2**20, 2)


def median_seconds(work: Callable[[], Any]) -> float:
    """The median of `ROUNDS` rounds, of fewer where they take long."""
    seconds: list[float] = []
    while len(seconds) < ROUNDS and sum(seconds) < ENOUGH_SECONDS:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds), 4)


class _Narrowing(TorchDispatchMode):
    """Notes whether a float64 tensor becomes one of fewer digits."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.dtype for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        made = {leaf.dtype for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)}
        self.found |= torch.float64 in given and bool(made & _FEWER_DIGITS)
        return result


def narrows(model: nn.Module, arguments: tuple[Any, ...]) -> bool:
    """Whether a model in float64 makes tensors of fewer digits of those it computes."""
    with torch.no_grad(), _Narrowing() as mode:
        model(*arguments)
    return mode.found


class Widened(TorchFunctionMode):
    """Casts of float64 tensors and whole numbers to fewer digits give float64, in any model that runs under it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and (args[0].dtype == torch.float64 or _is_whole(args[0])):
            if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
                return args[0].double()
            args = tuple(torch.float64 if _is_narrow(a) else a for a in args)
            kwargs = {key: torch.float64 if _is_narrow(value) else value for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _is_whole(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


def _is_narrow(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in _FEWER_DIGITS


def tensors(outputs: Any) -> list[Tensor]:
    """Every tensor of a nested result, detached."""
    return [leaf.detach() for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def one_line(error: BaseException) -> str:
    """The error's type and the start of its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def finite(outputs: list[Tensor]) -> bool:
    """Whether a comparison can say anything."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in outputs)
