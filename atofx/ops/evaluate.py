"""Evaluate one graph node on concrete arguments: shapes on the meta device, constants for real."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from atofx.ir.copies import deepcopy


def meta_call(node: fx.Node, args: Any, kwargs: Any, module: nn.Module | None = None) -> Any:
    """Run a node's target. Tensors among the arguments are on the meta device; a module must be a meta twin."""
    if node.op == "call_function":
        return node.target(*args, **kwargs)  # type: ignore[operator]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert module is not None
    return module.forward(*args, **kwargs)


def as_meta(tensor: torch.Tensor) -> torch.Tensor:
    """An empty tensor of the same layout on the meta device."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


_EMPTY = torch.empty  # while a model is traced, torch's own makes nodes


def contiguous_meta(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor on the meta device."""
    return _EMPTY(shape, dtype=dtype, device="meta")


def meta_twin(module: nn.Module) -> nn.Module:
    """A copy of a module in eval mode with its tensors on the meta device; the module itself is not touched."""
    lists = [v for v in vars(module).values() if isinstance(v, (list, tuple)) and v]
    own_lists = any(isinstance(v[0], torch.Tensor) for v in lists)
    if module._modules or own_lists:
        memo: dict[int, Any] = {id(t): as_meta(t) for t in [*module.parameters(), *module.buffers()]}
        modes = [vars(m)["training"] for m in module.modules()]  # while tracing that is a proxy, which cannot be copied
        memo.update((id(mode), False) for mode in modes if not isinstance(mode, bool))
        return deepcopy(module, memo).eval()
    twin = copy.copy(module)
    vars(twin)["_parameters"] = {k: p if p is None else as_meta(p) for k, p in module._parameters.items()}
    vars(twin)["_buffers"] = {k: b if b is None else as_meta(b) for k, b in module._buffers.items()}
    vars(twin)["training"] = False
    return twin


def is_literal(value: Any) -> bool:
    """Whether no graph node and no tensor is nested in a value."""
    if isinstance(value, (fx.Node, torch.Tensor)):
        return False
    if isinstance(value, (tuple, list)):
        return all(is_literal(v) for v in value)
    if isinstance(value, dict):
        return all(is_literal(v) for v in value.values())
    if isinstance(value, slice):
        return all(is_literal(v) for v in (value.start, value.stop, value.step))
    return True


def to_meta(value: Any) -> Any:
    """Nested values with every tensor on the meta device."""
    if isinstance(value, torch.Tensor):
        return value if value.device.type == "meta" else as_meta(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_meta(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(to_meta(v) for v in value)
    if isinstance(value, dict):
        return {k: to_meta(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(to_meta(value.start), to_meta(value.stop), to_meta(value.step))
    if isinstance(value, torch.device):
        return torch.device("meta")
    return value
