"""Proxies that know their value at the example input."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import fx

from atofx.errors import StateError, TraceError
from atofx.ops.constants import constant_value
from atofx.passes.decisions import is_squeezed
from atofx.passes.place import place


@runtime_checkable
class Evaluates(Protocol):
    """A tracer that can tell its own evaluation apart from the model's, and notes what the model's code decides by.

    Attributes:
        tensors: the model's parameters and buffers.
    """

    tensors: dict[str, torch.Tensor]

    def evaluating(self) -> AbstractContextManager[None]:
        """While a node is evaluated."""

    def taken(self, proxy: fx.Proxy, frame: FrameType) -> None:
        """Something that ``frame`` calls takes the number that a proxy stands for."""

    def counted(self, proxy: fx.Proxy) -> int:
        """How many elements a proxy has, which the model's Python code takes."""


class ValueProxy(fx.Proxy):
    """A proxy that knows its value at the example input."""

    def __getattr__(self, name: str) -> Any:
        if name == "ndim":
            return self.dim()
        return AttributeProxy(self, name)

    def dim(self) -> int:
        """The number of dimensions: a decision by sizes behind a squeeze, elsewhere it never changes."""
        if is_squeezed(self.node):
            number: Any = self.tracer.create_proxy("call_method", "dim", (self,), {})
            return int(number)
        value = concrete(self)
        return int(value.dim())

    @property
    def data(self) -> Any:
        """As any other attribute."""
        return AttributeProxy(self, "data")

    @data.setter
    def data(self, value: Any) -> None:
        raise StateError(
            "an assignment to the .data of a tensor cannot be traced; change the tensor in place (copy_, mul_)",
            only_buffers=False,
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __len__(self) -> int:
        assert isinstance(self.tracer, Evaluates)
        return self.tracer.counted(self)

    def __hash__(self) -> int:
        """A size is the key of a dict that its number is."""
        value = concrete(self)
        return hash(value) if isinstance(value, (int, float, str, tuple)) else id(self)

    def __index__(self) -> int:
        return operator.index(_taken(self, sys._getframe(1)))

    def __int__(self) -> int:
        return int(_taken(self, sys._getframe(1)))

    def __float__(self) -> float:
        return float(_taken(self, sys._getframe(1)))


def _augmented(name: str) -> Callable[[ValueProxy, Any], Any]:
    """``x += y`` changes a tensor, which may have other names and views; a number is replaced."""

    def assign(self: ValueProxy, other: Any) -> Any:
        in_place = isinstance(concrete(self), torch.Tensor)
        function = getattr(operator, f"__i{name}__" if in_place else f"__{name}__")
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return assign


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(ValueProxy, f"__i{_name}__", _augmented(_name))


class AttributeProxy(ValueProxy):
    """``proxy.name``: a method if it is called, else a node."""

    def __init__(self, root: fx.Proxy, attr: str) -> None:
        self.root = root
        self.attr = attr
        self.tracer = root.tracer
        self._node: fx.Node | None = None

    @property
    def node(self) -> fx.Node:  # type: ignore[override]
        """The node that reads the attribute, made when it is first used."""
        if self._node is None:
            self._node = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method; ``item`` and ``tolist`` of constants give their numbers."""
        if self.attr in ("item", "tolist") and isinstance(concrete(self.root), torch.Tensor):
            constant = constant_of(self.root)
            return number_of(self.root) if constant is None else getattr(constant, self.attr)()
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


def concrete(proxy: fx.Proxy) -> Any:
    """The value of a proxy at the example input; tensors on the meta device."""
    return proxy.node.meta["val"]


def constant_of(proxy: fx.Proxy) -> torch.Tensor | None:
    """The tensor a proxy stands for, if it depends on no input, no parameter and no buffer that training changes."""
    assert isinstance(proxy.tracer, Evaluates)
    with proxy.tracer.evaluating():
        constant = constant_value(proxy.node)
    return None if constant is None or _depends_on_state(proxy) else constant


def _depends_on_state(proxy: fx.Proxy) -> bool:
    """Whether a buffer of fractions, such as a running mean, takes part; whole numbers say how things are laid out."""
    assert isinstance(proxy.tracer, Evaluates)
    tensors = proxy.tracer.tensors
    todo, seen = [proxy.node], set[fx.Node]()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        value: Any = node.meta.get("val")
        if node.op == "get_attr" and str(node.target) in tensors and value.is_floating_point():
            return True
        todo += node.all_input_nodes
    return False


def number_of(proxy: fx.Proxy) -> Any:
    """The number a proxy stands for.

    Raises:
        TraceError: it depends on the data.
    """
    value = concrete(proxy)
    if isinstance(value, torch.Tensor):
        constant = constant_of(proxy)
        if constant is not None:
            return constant.item()
        raise TraceError(
            "the model turns a tensor's value into a Python number, which depends on the data"
            + place()
            + "; compute it outside the model or with tensor operations (torch.where)"
        )
    return value


def _taken(proxy: fx.Proxy, frame: FrameType) -> Any:
    number = number_of(proxy)
    assert isinstance(proxy.tracer, Evaluates)
    proxy.tracer.taken(proxy, frame)
    return number
