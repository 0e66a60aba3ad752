"""Dense FLOPs, counted by fvcore's handles plus handles for the operations it lacks."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from atofx.cost.meta import name_cpu_, replacements, zeros
from atofx.ir.copies import deepcopy
from atofx.ops.inplace import mutated_argument

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a function as it is imported
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

Handle = Callable[[list[Any], list[Any]], Counter[str]]


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """q kᵀ and (softmax) v: batch · L · S · (d + d_v) multiply-adds; a key head may serve several query heads."""
    query, key, value = (get_shape(v) for v in inputs[:3])
    batch = prod(max(pair) for pair in zip_longest(query[-3::-1], key[-3::-1], fillvalue=1))
    return Counter({"scaled_dot_product_attention": batch * query[-2] * key[-2] * (query[-1] + value[-1])})


def _bilinear(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """batch · out · in1 · in2 multiply-adds."""
    first, weight = get_shape(inputs[0]), get_shape(inputs[2])
    return Counter({"bilinear": prod(first[:-1]) * prod(weight)})


def _addmm_batched(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """baddbmm: batch · n · m · p multiply-adds."""
    left, right = get_shape(inputs[1]), get_shape(inputs[2])
    return Counter({"baddbmm": prod(left) * right[-1]})


def _matmul(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """matmul: as many multiply-adds for each result as are summed; fvcore's own handle knows one batch only."""
    return Counter({"matmul": prod(get_shape(outputs[0])) * get_shape(inputs[0])[-1]})


def _matrix_vector(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """mv, dot: as many multiply-adds as the first operand has elements."""
    return Counter({"mv": prod(get_shape(inputs[0]))})


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The product of the extents of all letters; fvcore's own handle reads a rounded number from a printed text."""
    shapes = [get_shape(value) for value in inputs[1].node().inputs()]
    terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
    extents: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        width = len(shape) - len(term.replace("...", ""))
        letters = [*term.partition("...")[0], *range(-width, 0), *term.partition("...")[2]]
        for letter, size in zip(letters, shape, strict=True):
            extents[str(letter)] = max(size, extents.get(str(letter), 1))
    return Counter({"einsum": prod(extents.values()) if len(shapes) > 1 else 0})


def _layer_norm(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """As fvcore's own handle, which refuses tensors of one dimension and of more than five."""
    affine = get_shape(inputs[2]) is not None
    return Counter({"layer_norm": prod(get_shape(inputs[0])) * (5 if affine else 4)})


#: Operations fvcore has no handle for, or none that is exact.
EXTRA_HANDLES: Mapping[str, Handle] = {
    "aten::scaled_dot_product_attention": _attention,
    "aten::bilinear": _bilinear,
    "aten::einsum": _einsum,
    "aten::baddbmm": _addmm_batched,
    "aten::matmul": _matmul,
    "aten::mv": _matrix_vector,
    "aten::dot": _matrix_vector,
    "aten::layer_norm": _layer_norm,
}


def count_flops(module: nn.Module, inputs: Any) -> int:
    """Multiply-adds of one forward pass in eval mode, as fvcore counts them (with :data:`EXTRA_HANDLES`).

    Args:
        module: any module; it is not touched, a copy that shares its parameters is run once on zeros.
        inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
    """
    twin = _sharing_copy(module)
    called = twin
    if isinstance(inputs, Mapping):
        called, inputs = _Keywords(twin, tuple(inputs)), tuple(inputs.values())
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with _quiet():
        try:
            return int(analysis(called, _zeros(arguments)).total())
        except _UNTRACEABLE:
            fresh = _sharing_copy(module)
            if isinstance(fresh, fx.GraphModule):
                return sum(_one_by_one(fresh, _zeros(arguments)).values())
            raise


def _sharing_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode with the very parameters of the module, but own buffers: a forward pass may change them.

    What is on the meta device is zero on the CPU in it: of convolutions there nothing could be recorded.
    """
    without_values = replacements(module)
    memo: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()} | without_values
    twin = deepcopy(module, memo).eval()
    if isinstance(twin, fx.GraphModule):
        if without_values:
            name_cpu_(twin.graph)
        _remove_dead(twin)
    return twin


def _remove_dead(twin: fx.GraphModule) -> None:
    """Erase what nobody reads, as the tracer under fvcore does, so that counting node by node gives the same."""
    for node in reversed(twin.graph.nodes):
        if node.users or node.op in ("placeholder", "output"):
            continue
        inner = twin.get_submodule(str(node.target)) if node.op == "call_module" else None
        if mutated_argument(node, inner) is None:
            twin.graph.erase_node(node)
    twin.recompile()


def analysis(module: nn.Module, inputs: tuple[Any, ...]) -> FlopCountAnalysis:
    """fvcore's analysis with our handles, quiet."""
    result = FlopCountAnalysis(module, inputs)
    result.set_op_handle(**EXTRA_HANDLES)
    result.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return result


class _Keywords(nn.Module):
    """Calls a module with keyword arguments given by position."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *values: Any) -> Any:
        return self.module(**dict(zip(self.names, values, strict=True)))


class _NodeCall(nn.Module):
    """Runs one graph node, so that fvcore reports its count under its name."""

    def __init__(self, node: fx.Node, module: nn.Module | None) -> None:
        super().__init__()
        self.node = node
        self._inner = (module,)  # in a tuple: a module used twice must not report both counts under one name

    def forward(self, args: Any, kwargs: Any) -> Any:
        if self._inner[0] is not None:
            return self._inner[0](*args, **kwargs)
        if self.node.op == "call_method":
            return getattr(args[0], str(self.node.target))(*args[1:], **kwargs)
        return self.node.target(*args, **kwargs)  # type: ignore[operator]


class _Interpreter(nn.Module):
    """Runs a graph node by node through :class:`_NodeCall` modules."""

    def __init__(self, twin: fx.GraphModule) -> None:
        super().__init__()
        self._twin = (twin,)
        self.tensors = nn.ParameterList(twin.parameters())
        self.calls = nn.ModuleDict()
        for node in twin.graph.nodes:
            if node.op in ("call_module", "call_function", "call_method"):
                inner = twin.get_submodule(str(node.target)) if node.op == "call_module" else None
                self.calls[_key(node)] = _NodeCall(node, inner)

    def forward(self, *inputs: Any) -> Any:
        env: dict[fx.Node, Any] = {}
        values = iter(inputs)
        nodes = self._twin[0].graph.nodes
        last = {source: node for node in nodes for source in node.all_input_nodes}
        for node in nodes:
            if node.op == "placeholder":
                env[node] = next(values)
            elif node.op == "get_attr":
                owner: Any = self._twin[0]
                for part in str(node.target).split("."):
                    owner = getattr(owner, part)
                env[node] = owner
            elif node.op == "output":
                return fx.node.map_arg(node.args[0], lambda n: env[n])
            else:
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: env[n])
                env[node] = self.calls[_key(node)](tuple(args), dict(kwargs))
                del args, kwargs
            for source in node.all_input_nodes:
                if last[source] is node:
                    del env[source]
        raise AssertionError("a graph ends with an output node")


def _key(node: fx.Node) -> str:
    """A name for a submodule: node names may be those of ModuleDict's own methods."""
    return f"node_{node.name}"


def flops_by_node(module: fx.GraphModule, inputs: tuple[Any, ...]) -> dict[str, int]:
    """Dense multiply-adds of every node of a graph module, by node name.

    Args:
        module: the graph.
        inputs: positional inputs in the order of its placeholders.
    """
    twin = _sharing_copy(module)
    assert isinstance(twin, fx.GraphModule)
    with _quiet():
        try:
            by_module = analysis(_Interpreter(twin), _zeros(inputs)).by_module()
            counts = {node.name: int(by_module.get(f"calls.{_key(node)}", 0)) for node in twin.graph.nodes}
        except _UNTRACEABLE:
            counts = _one_by_one(twin, _zeros(inputs))
    return {node.name: counts.get(node.name, 0) for node in module.graph.nodes}  # what the twin has not costs nothing


#: What the tracer under fvcore raises on graphs it cannot record as a whole; it gives named tuples as plain ones.
_UNTRACEABLE = (RuntimeError, TypeError, AttributeError)


class _Counting(fx.Interpreter):
    """Runs a graph and counts every node on its own; a node that cannot be recorded counts nothing."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.counts: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op in ("call_module", "call_function", "call_method"):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            inner = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
            try:
                self.counts[n.name] = int(analysis(_Frozen(n, inner, args, kwargs), _tensors((args, kwargs))).total())
            except _UNTRACEABLE:
                self.counts[n.name] = 0
        return result


class _Frozen(nn.Module):
    """One node's call with its tensors as inputs and everything else fixed."""

    def __init__(self, node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any) -> None:
        super().__init__()
        self._call = (_NodeCall(node, module), args, kwargs)
        self.tensors = nn.ParameterList(module.parameters() if module is not None else ())

    def forward(self, *tensors: torch.Tensor) -> Any:
        call, args, kwargs = self._call
        values = iter(tensors)
        return call(*_refilled((args, kwargs), values))


def _tensors(value: Any) -> tuple[torch.Tensor, ...]:
    return tuple(v.detach() for v in pytree.tree_leaves(value) if isinstance(v, torch.Tensor))


def _refilled(value: Any, tensors: Iterator[torch.Tensor]) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda _: next(tensors), value)


def _one_by_one(module: fx.GraphModule, inputs: tuple[Any, ...]) -> dict[str, int]:
    counting = _Counting(module)
    with torch.no_grad():
        counting.run(*inputs)
    return {node.name: counting.counts.get(node.name, 0) for node in module.graph.nodes}


def _dropped(saved: torch.Tensor) -> None:
    """Keeps nothing of a tensor saved for a backward pass."""


def _missing(kept: None) -> torch.Tensor:
    raise AssertionError("counting makes no backward pass")


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and no activations kept for a backward pass; what is run stays what runs with gradients.

    Modes of the caller (a profiler, torch's own FLOP counter) see operations before the tracer under fvcore does, which
    would then miss them: they are off.
    """
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), saved_tensors_hooks(_dropped, _missing), _disable_current_modes():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _zeros(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return zeros(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_zeros(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_zeros(v) for v in value)
    if isinstance(value, dict):
        return {k: _zeros(v) for k, v in value.items()}
    return value
