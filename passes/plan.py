"""How a model that cannot be traced whole is taken apart: its traceable regions and how they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from atofx.passes.inputs import ExampleInputs


@dataclass(frozen=True, eq=False)
class Call:
    """One way in which the model calls a region.

    Attributes:
        region: qualified name of the submodule.
        inputs: its inputs at the example: a tuple of positional or a dict of keyword inputs.
        times: how often the example leads to such a call; 0 where it has no rows (there are some in ``inputs``).
    """

    region: str
    inputs: ExampleInputs
    times: int


_OUTSIDE = ", whose outside could not be traced (program.frontend_reason says why)"


@dataclass(frozen=True, eq=False)
class Plan:
    """The traceable regions of a model.

    Attributes:
        reason: why the model cannot be traced whole.
        calls: the different calls of all regions; calls of one region stand together.
        outside: parameter or buffer that no region has to itself -> why it stays whole.
    """

    reason: str
    calls: tuple[Call, ...]
    outside: Mapping[str, str]

    @property
    def regions(self) -> tuple[str, ...]:
        """The qualified names of the regions."""
        return tuple(dict.fromkeys(call.region for call in self.calls))

    def leaving(self, region: str) -> str:
        """Why the results of a region keep their shape."""
        return f"leaves the traced region {region!r}{_OUTSIDE}"

    def entering(self, region: str) -> str:
        """Why what a region is given keeps its shape."""
        return f"enters the traced region {region!r}{_OUTSIDE}"


def form(value: Any, *, sizes: bool) -> Any:
    """What must be alike in two calls: nesting, literals, and of tensors the number of dimensions.

    Args:
        value: nested inputs.
        sizes: tell tensors of different shapes and dtypes apart too.
    """
    if isinstance(value, torch.Tensor):
        return ("tensor", (tuple(value.shape), value.dtype) if sizes else value.dim())
    if isinstance(value, (tuple, list)):
        return ("sequence", *(form(v, sizes=sizes) for v in value))
    if isinstance(value, Mapping):
        return ("mapping", *((key, form(v, sizes=sizes)) for key, v in value.items()))
    return ("value", type(value).__name__, value)


def is_plain(value: Any) -> bool:
    """Whether a value is made of tensors and literals in lists, tuples and dicts only."""
    if isinstance(value, (tuple, list)):
        return all(is_plain(v) for v in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, (str, int)) and is_plain(v) for key, v in value.items())
    literals = (bool, int, float, complex, str, torch.dtype, torch.device)
    return value is None or isinstance(value, (torch.Tensor, *literals))


def has_rows(value: Any) -> bool:
    """Whether no tensor in a nested value is empty."""
    return all(leaf.numel() > 0 for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))


def with_rows(value: Any) -> Any:
    """A nested value in which every dimension of length 0 has length 2; ones take the place of what is not there."""

    def filled(tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.numel() else tensor.new_ones([size or 2 for size in tensor.shape])

    return pytree.tree_map_only(torch.Tensor, filled, value)
