"""One record per operation: how channel ids move through it and how a call is resized.

``register_op`` is the public way to add a record; the families in this package use the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from atofx.ops.evaluate import as_meta
from atofx.ops.inplace import works_in_place

if TYPE_CHECKING:
    from atofx.ops.context import LineageContext
    from atofx.ops.resize import Resizer

#: ``lineage(ctx, *args, **kwargs)``: the operation's own arguments, tensors as TensorValue. Returns the result's value.
LineageFunction = Callable[..., Any]
#: ``resize(resizer, node)``: emits the node's counterpart into the compact graph and returns it.
ResizeFunction = Callable[["Resizer", fx.Node], Any]
#: Positional and keyword arguments.
BoundCall = tuple[tuple[Any, ...], dict[str, Any]]
#: ``bind(ctx, module, *args, **kwargs)`` -> (args, kwargs) of the functional spelling.
BindFunction = Callable[..., BoundCall]
#: ``configure(module, resizer, node)``: sets the copied module's size attributes after its tensors were sliced; returns
#: the module to use where it is another one.
ConfigureFunction = Callable[[nn.Module, "Resizer", fx.Node], nn.Module | None]


#: ``shape(module, input)`` on the meta device -> result on the meta device, or None.
ShapeFunction = Callable[[nn.Module, Tensor], Tensor | None]


def same_shape(module: nn.Module, x: Tensor) -> Tensor:
    """The shape function of modules whose result has the input's shape and dtype."""
    return x if works_in_place(module) else as_meta(x)


def same_layout(*tensors: Tensor) -> Tensor | None:
    """The result of arithmetic on floating point tensors of one layout, or vectors along it; None for others."""
    largest = max(tensors, key=Tensor.numel)
    return as_meta(largest) if _lie_along(tensors, largest) else None


def layout_in_place(first: Tensor, *others: Tensor) -> Tensor | None:
    """The same for arithmetic in place, whose result is the first tensor itself."""
    return first if _lie_along(others, first) else None


def _lie_along(tensors: tuple[Tensor, ...], largest: Tensor) -> bool:
    """Whether arithmetic of these gives a tensor of the layout of the largest."""
    if not largest.dtype.is_floating_point or not _is_dense(largest):
        return False
    for tensor in tensors:
        same = tensor.shape == largest.shape and tensor.stride() == largest.stride()
        if tensor.dtype != largest.dtype or not (same or _is_vector_along(tensor, largest)):
            return False
    return True


def _is_dense(tensor: Tensor) -> bool:
    """Whether a result of arithmetic has the tensor's strides."""
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _is_vector_along(vector: Tensor, whole: Tensor) -> bool:
    """Whether one tensor is another's shape but for ones, in all dimensions but one at most."""
    if vector.dim() != whole.dim() or vector.numel() == whole.numel():
        return False
    long = [d for d, size in enumerate(vector.shape) if size > 1]
    return len(long) <= 1 and all(vector.shape[d] == whole.shape[d] for d in long)


@dataclass(frozen=True)
class OpRecord:
    """Everything atofx knows of one operation.

    Attributes:
        name: readable name.
        lineage: how ids move (see :data:`LineageFunction`).
        resize: how a functional call is emitted in the compact graph; None copies it, keeping its numbers.
        shape: a short cut for tracing a module: its result on the meta device from its only input, None to run the
            module.
        layout: likewise for a function of nothing but tensors.
        normalizes: whether it standardises its input and gives it a new scale and shift.
    """

    name: str
    lineage: LineageFunction
    resize: ResizeFunction | None = None
    shape: ShapeFunction | None = None
    layout: Callable[..., Tensor | None] | None = None
    normalizes: bool = False


@dataclass(frozen=True)
class ModuleRecord:
    """How a leaf module type spells an operation.

    Attributes:
        op: the operation.
        bind: turns a module call into the functional call.
        configure: sets size attributes (``out_channels``, ``groups``, …) of the resized copy; None if it has none.
        tensors: names of parameters that must be plain (a re-parametrised module is traced through instead).
    """

    op: OpRecord
    bind: BindFunction
    configure: ConfigureFunction | None = None
    tensors: frozenset[str] = frozenset()


class Registry:
    """Operation records by function, method name and module type."""

    def __init__(self) -> None:
        self._functions: dict[Any, OpRecord] = {}
        self._methods: dict[str, OpRecord] = {}
        self._modules: dict[type[nn.Module], ModuleRecord] = {}
        self._inherited: dict[type[nn.Module], ModuleRecord | None] = {}  # what was looked up before

    def add(
        self,
        record: OpRecord,
        *,
        functions: Iterable[Any] = (),
        methods: Iterable[str] = (),
        modules: Iterable[type[nn.Module]] = (),
        bind: BindFunction | None = None,
        configure: ConfigureFunction | None = None,
        tensors: tuple[str, ...] = (),
    ) -> OpRecord:
        """Enter a record under all its spellings; a later entry for the same spelling replaces the earlier one."""
        for function in functions:
            self._functions[function] = record
        for method in methods:
            self._methods[method] = record
        for module in modules:
            self._modules[module] = ModuleRecord(record, bind or _plain_bind, configure, frozenset(tensors))
        self._inherited.clear()
        return record

    def function(self, function: Any) -> OpRecord | None:
        """The record of a function, if there is one."""
        try:
            record = self._functions.get(function)
        except TypeError:  # an unhashable callable has no record
            return None
        if record is None:  # functions of packages that are heavy to import are entered by their qualified name
            module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
            record = self._functions.get(f"{module}.{name}")
        if record is None and isinstance(function, type):  # a class is called like the class it derives from
            record = next((self._functions[base] for base in function.__mro__ if base in self._functions), None)
        return record

    def method(self, name: str) -> OpRecord | None:
        """The record of a tensor method."""
        return self._methods.get(name)

    def module(self, module: nn.Module) -> ModuleRecord | None:
        """The record of a module's type, or of the base whose ``forward`` it inherits unchanged."""
        cls = type(module)
        if cls not in self._inherited:
            base = next((base for base in cls.__mro__ if base in self._modules), None)
            changed = base is None or (cls is not base and _overrides(cls, base))
            self._inherited[cls] = None if base is None or changed else self._modules[base]
        record = self._inherited[cls]
        if record is None or "forward" in vars(module):
            return None
        return record if not record.tensors or module._parameters.keys() >= record.tensors else None

    def of(self, node: fx.Node, module: nn.Module | None) -> OpRecord | None:
        """The record that describes a graph node."""
        if node.op == "call_function":
            return self.function(node.target)
        if node.op == "call_method":
            return self.method(str(node.target))
        if node.op == "call_module" and module is not None:
            record = self.module(module)
            return record.op if record else None
        return None


#: Methods of a module that do not change what it computes.
_HARMLESS = frozenset(
    {
        "__init__", "__repr__", "extra_repr", "_get_name", "reset_parameters", "train", "eval", "__getstate__",
        "__setstate__", "state_dict", "load_state_dict", "_save_to_state_dict", "_load_from_state_dict", "_apply",
    }
)  # fmt: skip


def _overrides(cls: type, base: type) -> bool:
    """Whether a class, or one between it and ``base``, changes a method of ``base`` that its ``forward`` may use."""
    between = cls.__mro__[: cls.__mro__.index(base)]
    changed = {name for part in between for name, value in vars(part).items() if callable(value)}
    return any(name in changed - _HARMLESS and hasattr(base, name) for name in changed)


#: The records of all built-in operations and of those users register.
REGISTRY = Registry()


def register_op(
    name: str,
    lineage: LineageFunction,
    *,
    functions: Iterable[Any] = (),
    methods: Iterable[str] = (),
    modules: Iterable[type[nn.Module]] = (),
    resize: ResizeFunction | None = None,
    bind: BindFunction | None = None,
    configure: ConfigureFunction | None = None,
) -> OpRecord:
    """Tell atofx how channels move through an operation it does not know.

    Args:
        name: readable name, used in messages.
        lineage: ``lineage(ctx, *args, **kwargs)`` receives the call's own arguments, tensors as
            :class:`~atofx.ir.values.TensorValue`, and returns the result's value. ``ctx`` is a
            :class:`~atofx.ops.context.LineageContext`; ready-made functions are in the
            modules of ``atofx.ops`` (``pointwise``, ``movement``, …).
        functions: callables that spell the operation.
        methods: tensor method names that spell it.
        modules: module types that spell it; they are not traced into.
        resize: how to emit the call in the compact graph; None keeps the call's numbers as they are.
        bind: for modules: ``bind(ctx, module, *args, **kwargs)`` -> (args, kwargs) passed to ``lineage``; by default
            the call's own arguments.
        configure: for modules: sets size attributes of the resized copy.

    Returns:
        The record.
    """
    record = OpRecord(name, lineage, resize)
    return REGISTRY.add(record, functions=functions, methods=methods, modules=modules, bind=bind, configure=configure)


def _plain_bind(ctx: LineageContext, module: nn.Module, *args: Any, **kwargs: Any) -> BoundCall:
    return args, kwargs
