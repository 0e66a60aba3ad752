"""What the nodes of a graph give at the example inputs, on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from atofx.errors import TraceError
from atofx.ops import REGISTRY
from atofx.ops.constants import TENSOR, constant_value
from atofx.ops.evaluate import meta_call, meta_twin, to_meta
from atofx.passes.base import stored
from atofx.passes.place import place


class Evaluator:
    """Evaluates one node after another.

    Args:
        inputs: example inputs by the names of the placeholders.
        constants: tensors of the graph that are no part of the model.
        opaque: functions whose code may read values; they run on zeros.
    """

    def __init__(
        self, inputs: Mapping[str, Any], constants: Mapping[str, torch.Tensor], opaque: Collection[Any]
    ) -> None:
        self._inputs, self._constants, self._opaque = inputs, constants, opaque
        self._twins: dict[int, nn.Module] = {}

    def value(self, node: fx.Node, original: nn.Module | None, root: nn.Module) -> Any:
        """What a node gives, tensors on the meta device.

        Args:
            node: its inputs have been evaluated.
            original: the module that it calls.
            root: the model.

        Raises:
            TraceError: the call fails on its inputs.
        """
        if node.op == "placeholder":
            return to_meta(self._inputs[str(node.target)])
        if node.op == "get_attr":
            if node.target == "training":
                return root.training
            name = str(node.target)
            tensor = self._constants[name] if name in self._constants else stored(root, name)
            node.meta[TENSOR] = tensor
            return to_meta(tensor)
        if node.op == "output":
            return None
        args = fx.node.map_arg(node.args, lambda n: n.meta["val"])
        kwargs = fx.node.map_arg(dict(node.kwargs), lambda n: n.meta["val"])
        module = None if original is None else self._twin(original)
        if node.target in self._opaque:  # its code may read values: run it on zeros
            return to_meta(meta_call(node, _zeros(args), _zeros(kwargs)))
        try:
            try:
                return _on_meta(meta_call(node, to_meta(args), to_meta(kwargs), module))
            except NotImplementedError:  # sizes that depend on values: a boolean mask, if it is a constant
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), _constant_or_meta)
                return to_meta(meta_call(node, args, kwargs, module))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            shapes = [tuple(t.shape) for t in _flat_tensors((args, kwargs))]
            target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
            raise TraceError(
                f"{target} fails on inputs of shape {shapes} at the example input{place()}: {error}"
            ) from error

    def _twin(self, module: nn.Module) -> nn.Module:
        if id(module) not in self._twins:
            self._twins[id(module)] = meta_twin(module)
        return self._twins[id(module)]


def value_at_example(node: fx.Node) -> Any:
    """What a node gives at the example."""
    return node.meta["val"]


def shape_of_call(
    node: fx.Node, module: nn.Module | None, value_of: Callable[[fx.Node], Any] = value_at_example
) -> torch.Tensor | None:
    """A call's result by its record's short cut, None if it has to be run."""
    record = REGISTRY.of(node, module)
    if record is None or (record.layout if module is None else record.shape) is None:
        return None
    args = node.args
    tensors = [value for a in args if isinstance(a, fx.Node) and isinstance(value := value_of(a), torch.Tensor)]
    if not args or len(tensors) < len(args) or node.kwargs:
        return None
    if module is None:
        return None if record.layout is None else record.layout(*tensors)
    return record.shape(module, tensors[0]) if record.shape is not None and len(tensors) == 1 else None


def _on_meta(value: Any) -> Any:
    """Factories without a device make real tensors; only their shape matters here."""
    return to_meta(value) if isinstance(value, torch.Tensor) and value.device.type != "meta" else value


def _zeros(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: torch.zeros(t.shape, dtype=t.dtype), value)


def _constant_or_meta(node: fx.Node) -> Any:
    constant = constant_value(node) if isinstance(node.meta["val"], torch.Tensor) else None
    return node.meta["val"] if constant is None else constant


def _flat_tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _flat_tensors(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _flat_tensors(v)]
    return []
