"""While tracing, parameters and buffers are nodes however the model's code gets at them.

fx sees those that are read as attributes. ``self.parameters()``, ``state_dict()`` and ``_parameters[...]`` give the
tensors themselves, and what is computed from these would be a number of the day of tracing.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from atofx.errors import StateError
from atofx.passes.place import place


class Names(Protocol):
    """What makes the nodes."""

    @property
    def inside_evaluation(self) -> bool:
        """Whether a node is evaluated right now."""

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """A new node's proxy."""


class OwnTensorsAsNodes(TorchFunctionMode):
    """Functions of torch that get a tensor of the model itself get its node.

    Args:
        tracer: makes the nodes.
        names: qualified names of the model's tensors, by identity.
    """

    def __init__(self, tracer: Names, names: Mapping[int, str]) -> None:
        super().__init__()
        self._tracer = tracer
        self._names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._tracer.inside_evaluation or func in _LOOKS or not (self._has_own(args) or self._has_own(kwargs)):
            return func(*args, **kwargs)
        name = func.__name__
        if name == "__set__":
            return self._set(func, *args)
        if name == "__get__":
            return getattr(self._proxy(args[0]), func.__self__.__name__)
        args, kwargs = self._with_nodes(args), self._with_nodes(kwargs)
        if name in _BUILTIN:
            return _BUILTIN[name](*args)
        if is_tensor_method_or_property(func) and not isinstance(args[0], Tensor):
            return getattr(args[0], name)(*args[1:], **kwargs)
        return func(*args, **kwargs)

    def _set(self, func: Any, tensor: Tensor, value: Any) -> Any:
        if func.__self__.__name__ == "data" and id(tensor) in self._names:
            raise StateError(
                f"the model assigns to {self._names[id(tensor)]}.data{place()}, which cannot be traced; change the "
                "tensor in place (copy_, mul_)",
                only_buffers=False,
            )
        return func(tensor, value)

    def _proxy(self, tensor: Tensor) -> Any:
        return self._tracer.create_proxy("get_attr", self._names[id(tensor)], (), {})

    def _has_own(self, value: Any) -> bool:
        if isinstance(value, (tuple, list)):
            return any(map(self._has_own, value))
        if isinstance(value, dict):
            return any(map(self._has_own, value.values()))
        return id(value) in self._names

    def _with_nodes(self, value: Any) -> Any:
        if type(value) in (tuple, list):
            return type(value)(map(self._with_nodes, value))
        if isinstance(value, dict):
            return {key: self._with_nodes(item) for key, item in value.items()}
        return self._proxy(value) if id(value) in self._names else value


#: What depends on no value, and what belongs to the tensor itself.
_PROPERTIES = (
    "shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf", "grad", "grad_fn", "names", "is_meta",
    "is_cpu", "is_cuda", "is_mps", "is_sparse", "is_sparse_csr", "is_quantized", "is_nested", "is_xla", "is_mkldnn",
    "is_vulkan", "is_ort", "is_xpu", "is_ipu", "is_mtia", "itemsize", "nbytes", "output_nr", "retains_grad", "_version",
    "_backward_hooks", "_base", "_cdata", "_post_accumulate_grad_hooks", "volatile", "name",
)  # fmt: skip
_METHODS = (
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "is_floating_point",
    "is_complex", "is_contiguous", "is_signed", "get_device", "data_ptr", "__hash__", "__len__", "__repr__",
    "__format__", "requires_grad_", "register_hook", "untyped_storage", "is_shared",
)  # fmt: skip
_LOOKS: frozenset[Any] = frozenset(
    [getattr(Tensor, name).__get__ for name in _PROPERTIES if hasattr(getattr(Tensor, name, None), "__get__")]
    + [getattr(Tensor, name) for name in _METHODS]
    + [getattr(torch, name) for name in ("is_floating_point", "is_complex", "numel", "is_tensor")]
)
_BUILTIN: Mapping[str, Callable[..., Any]] = {
    f"__{name}__": getattr(builtins, name) for name in ("float", "int", "bool", "complex", "iter", "reversed")
}
