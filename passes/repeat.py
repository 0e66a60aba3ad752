"""Whether the calls of a model are alike, found by calling it: for models whose code symbolic tracing cannot follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.errors import StateError
from atofx.ir.copies import deepcopy
from atofx.passes.inputs import ExampleInputs
from atofx.passes.record import call, copied, random_state_kept
from atofx.passes.restore import attributes_restored

_CALLS = 3
_TOLERANCE = 1e-5  # of the largest element: far above rounding


def refuse_unlike_calls(model: nn.Module, inputs: ExampleInputs) -> None:
    """Call a copy of a model in eval mode several times on the same inputs, buffers and random numbers.

    Args:
        model: it is left as it was.
        inputs: the example inputs.

    Raises:
        StateError: a later call gives something else.
    """
    try:
        twin = deepcopy(model).eval()
        with torch.no_grad(), attributes_restored(twin) as before:
            alike = _are_alike(twin, inputs)
            names = [] if alike else [change.name for change in before.changes() if not change.is_buffer]
    except Exception:  # noqa: BLE001 - no such copy or call: whoever traces it says why
        return
    if not alike:
        kept = f"keeps {', '.join(map(repr, names[:5]))} from one call to the next" if names else "keeps something"
        raise StateError(
            f"{type(model).__name__} {kept}: called again on the same inputs it gives something else, which a graph "
            "cannot; take what it keeps as an input and return it, or register a buffer and change that in place",
            only_buffers=False,
        )


def _are_alike(twin: nn.Module, inputs: ExampleInputs) -> bool:
    buffers = [(m, key, b, b.clone()) for m in twin.modules() for key, b in m._buffers.items() if b is not None]
    first: list[Any] | None = None
    for _ in range(_CALLS):
        with random_state_kept():
            results = copied(pytree.tree_leaves(call(twin, copied(inputs))))
        if first is not None and not _same(first, results):
            return False
        first = results if first is None else first
        for module, key, buffer, content in buffers:
            buffer.copy_(content)
            module._buffers[key] = buffer
    return True


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(_equal, one, other))


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return type(a) is type(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    finite = a[a.isfinite()]
    largest = float(finite.abs().amax()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=_TOLERANCE * largest, equal_nan=True)
