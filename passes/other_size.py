"""Which dimensions are longer for a larger image or batch: shapes are computed once more, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from atofx.ir.blueprint import Blueprint
from atofx.nn.sizes import expect_decision
from atofx.ops.evaluate import meta_call, meta_twin, to_meta
from atofx.passes.evaluation import shape_of_call


class OtherSize:
    """Shapes of a graph for inputs of another size.

    Args:
        blueprint: the graph, every node with its value at the example.
        others: an input of another size on the meta device, from one of the example; the next one counts where the
            model fails on what one makes.
    """

    def __init__(self, blueprint: Blueprint, *others: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._graph = blueprint.graph
        self._attributes = blueprint.attributes
        self._others = list(others)
        self._tried: list[dict[fx.Node, Any]] = []
        self._begin()

    def _begin(self) -> None:
        self._other = self._others.pop(0)
        self._waiting = iter(self._graph.nodes)
        self._values: dict[fx.Node, Any] = {}

    def longer(self, node: fx.Node) -> frozenset[int] | None:
        """The dimensions of a tensor node that have another length then; None where that cannot be told."""
        while (node not in self._values or (self._others and self._has_lines)) and self._advance():
            pass
        self._others.clear()  # all answers are about inputs of one kind
        before, after = node.meta.get("val"), self._values.get(node)
        if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor) or before.dim() != after.dim():
            return None
        return frozenset(d for d, (a, b) in enumerate(zip(before.shape, after.shape, strict=True)) if a != b)

    @cached_property
    def _has_lines(self) -> bool:
        """Whether an input may be a line of pixels or of tokens: only the whole model tells which it takes."""
        values = [node.meta.get("val") for node in self._graph.nodes if node.op == "placeholder"]
        return any(isinstance(v, torch.Tensor) and v.dim() == 3 and v.is_floating_point() for v in values)

    def _advance(self) -> bool:
        """Compute one more node; False at the end, and where the model takes none of the sizes."""
        node = next(self._waiting, None)
        if node is None:
            return False
        try:
            with torch.no_grad():
                self._values[node] = self._value(node)
        except Exception:  # noqa: BLE001 - whatever the model's code raises where it does not take that size
            self._tried.append(self._values)
            if self._others:
                self._begin()
                return True
            self._values, self._waiting = max(self._tried, key=len), iter(())
            return False
        return True

    def _value(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if node.op == "placeholder":
            return self._other(value) if isinstance(value, torch.Tensor) else value
        if node.op == "get_attr" or node.target is expect_decision:
            return value
        module = self._attributes[str(node.target)] if node.op == "call_module" else None
        shape = shape_of_call(node, module, self._values.__getitem__)
        if shape is not None:
            return shape
        args = fx.node.map_arg(node.args, lambda n: self._values[n])
        kwargs = fx.node.map_arg(dict(node.kwargs), lambda n: self._values[n])
        return to_meta(meta_call(node, to_meta(args), to_meta(kwargs), _twin(module)))


def _twin(module: nn.Module | None) -> nn.Module | None:
    return None if module is None else meta_twin(module)


def larger_images(value: torch.Tensor) -> torch.Tensor:
    """Twice the size: dimensions behind the channels; the second of whole numbers."""
    first = 2 if value.dim() > 2 else 1 if value.dim() == 2 and not value.dtype.is_floating_point else value.dim()
    return _doubled(value, range(first, value.dim()))


def longer_rows(value: torch.Tensor) -> torch.Tensor:
    """:func:`larger_images` of tokens and of images whose channels come last."""
    if value.dim() < 3 or not value.dtype.is_floating_point:
        return larger_images(value)
    return _doubled(value, range(1, value.dim() - 1))


def larger_batch(value: torch.Tensor) -> torch.Tensor:
    """Twice as many samples."""
    return _doubled(value, range(min(value.dim(), 1)))


def _doubled(value: torch.Tensor, dims: range) -> torch.Tensor:
    shape = [2 * size if d in dims else size for d, size in enumerate(value.shape)]
    return torch.empty(shape, dtype=value.dtype, device="meta")
