"""What all passes share: fetching by qualified name, and a rest for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn


def attribute(root: nn.Module, name: str) -> Any:
    """The module, parameter, buffer or plain attribute of that qualified name."""
    owner: Any = root
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner


def stored(root: nn.Module, name: str) -> Any:
    """The attribute of that qualified name, not through the patched ``__getattr__``."""
    owner: Any = root
    for part in name.split("."):
        stores = [vars(owner), *(vars(owner).get(s, {}) for s in ("_parameters", "_buffers", "_modules"))]
        owner = next((store[part] for store in stores if part in store), None)
    return owner


def owner(node: fx.Node) -> str:
    """The qualified name of the module whose code made a node, "" for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def modules_by_name(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module by every qualified name it goes by, in the order of ``named_modules``."""
    found = [("", model)]
    _collect(model, "", found)
    return found


def _collect(owner: nn.Module, prefix: str, found: list[tuple[str, nn.Module]]) -> None:
    """Add what is below a module, all of whose names begin with ``prefix``."""
    for key, child in owner._modules.items():
        if child is not None:
            found.append((prefix + key, child))
            if child._modules:
                _collect(child, f"{prefix}{key}.", found)


def common_prefix(names: list[str]) -> str:
    """The innermost module that all qualified names lie in, "" for the model itself."""
    shared = names[0].split(".") if names else []
    for name in names[1:]:
        parts = name.split(".")
        length = next((i for i, pair in enumerate(zip(shared, parts, strict=False)) if pair[0] != pair[1]), None)
        shared = shared[: min(len(shared), len(parts)) if length is None else length]
    return ".".join(shared)


def tensors_by_name(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, torch.Tensor]]:
    """Parameters and buffers by every qualified name they go by, in one walk through the model."""
    parameters: dict[str, nn.Parameter] = {}
    buffers: dict[str, torch.Tensor] = {}
    for name, module in modules_by_name(model):
        prefix = f"{name}." if name else ""
        for key, parameter in module._parameters.items():
            if parameter is not None:
                parameters[prefix + key] = parameter
        for key, buffer in module._buffers.items():
            if buffer is not None:
                buffers[prefix + key] = buffer
    return parameters, buffers


def passing_buffers(model: nn.Module) -> frozenset[str]:
    """The buffers that are no part of the state dict, by every qualified name they go by."""
    return frozenset(
        f"{name}.{key}" if name else key
        for name, module in modules_by_name(model)
        for key in module._non_persistent_buffers_set
    )


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's garbage collector rests: nodes and their values stay, it would go through them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
