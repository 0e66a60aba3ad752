"""Model and example inputs -> graph with a meta value at every node.

Symbolic tracing that also runs on shapes: every proxy knows what it evaluates to at the example input, so control flow
on shapes is followed (and fixed), while sizes stay dynamic in the emitted code.
"""

from __future__ import annotations

import inspect
import math
import operator
import os
import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

import atofx.ops
from atofx.errors import TraceError
from atofx.ops import COMPOSITES, REGISTRY
from atofx.ops.constants import constant_value
from atofx.ops.evaluate import as_meta, meta_call, meta_twin
from atofx.ops.inplace import mutated_argument

ExampleInputs = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced model.

    Attributes:
        module: shares modules and parameters with the model; every node has ``meta["val"]``, tensors on the meta
            device.
        tensors: every parameter and buffer of the *model* by qualified name, and constants of the graph.
        inputs: the example inputs, as given.
        unused: parameters and buffers of the model that the graph does not use.
    """

    module: fx.GraphModule
    tensors: dict[str, torch.Tensor]
    inputs: ExampleInputs
    unused: tuple[str, ...]


def trace(model: nn.Module, example_inputs: ExampleInputs) -> Traced:
    """Trace a model.

    Args:
        model: any module; it is left as it was (parameters, buffers, mode, hooks, RNG state).
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.

    Raises:
        TraceError: the model has control flow on values or cannot run on the example; names the user's file and line.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"trace needs a torch.nn.Module, got {type(model).__name__}")
    tracer = _Tracer(_bind_inputs(model, example_inputs))
    states = (random.getstate(), torch.get_rng_state())
    try:
        graph = tracer.trace(model)
    except TraceError:
        raise
    except Exception as error:  # the user's own forward may raise anything
        raise TraceError(_message(error, model)) from error
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
    module = fx.GraphModule(_Attributes(model, tracer.constants).named(graph), graph, type(model).__name__)
    module.training = model.training
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    used_ids = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            value = _fetch(module, node.target)
            if isinstance(value, torch.Tensor):
                tensors.setdefault(node.target, value)
                used_ids.add(id(value))
        elif node.op == "call_module":
            leaf = module.get_submodule(node.target)
            used_ids.update(id(t) for t in [*leaf.parameters(), *leaf.buffers()])
    unused = tuple(name for name, t in tensors.items() if id(t) not in used_ids)
    reachable = set(dict(module.named_parameters(remove_duplicate=False)))
    reachable.update(dict(module.named_buffers(remove_duplicate=False)))
    # a tied tensor goes by a name in use
    ordered = dict(sorted(tensors.items(), key=lambda item: item[0] not in reachable))
    return Traced(module, ordered, example_inputs, unused)


@dataclass(frozen=True, eq=False)
class _Attributes:
    """Where a graph's attributes are: on the model, or among the constants made while tracing."""

    model: nn.Module
    constants: dict[str, torch.Tensor]

    def named(self, graph: fx.Graph) -> dict[str, Any]:
        """Every module, parameter and buffer the graph names."""
        found: dict[str, Any] = {}
        for node in graph.nodes:
            if node.op in ("get_attr", "call_module"):
                name = str(node.target)
                found[name] = self.constants[name] if name in self.constants else _fetch(self.model, name)
        return found


def _bind_inputs(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, Any]:
    """Example inputs by the parameter names of ``forward``."""
    signature = inspect.signature(model.forward)
    if isinstance(example_inputs, Mapping):
        args: tuple[Any, ...] = ()
        kwargs = dict(example_inputs)
    else:
        args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
        kwargs = {}
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TraceError(
            f"the example inputs do not fit {type(model).__name__}.forward{signature}: {error}; "
            "pass a tensor, a tuple of positional inputs, or a dict of keyword inputs"
        ) from error
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named.update({f"{name}_{i}": v for i, v in enumerate(value)})
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return named


class _Proxy(fx.Proxy):
    """A proxy that knows its value at the example input."""

    def __getattr__(self, name: str) -> Any:
        if name == "ndim":
            return _concrete(self).dim()
        return _Attribute(self, name)

    def dim(self) -> int:
        value = _concrete(self)
        return int(value.dim())

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __len__(self) -> int:
        return len(_concrete(self))

    def __index__(self) -> int:
        return operator.index(_number(self))

    def __int__(self) -> int:
        return int(_number(self))

    def __float__(self) -> float:
        return float(_number(self))


class _Attribute(_Proxy):
    """``proxy.name``: a method if it is called, else a node."""

    def __init__(self, root: fx.Proxy, attr: str) -> None:
        self.root = root
        self.attr = attr
        self.tracer = root.tracer
        self._node: fx.Node | None = None

    @property
    def node(self) -> fx.Node:  # type: ignore[override]
        if self._node is None:
            self._node = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.attr in ("item", "tolist") and isinstance(_concrete(self.root), torch.Tensor):
            constant = _constant(self.root)
            return _number(self.root) if constant is None else getattr(constant, self.attr)()
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


def _concrete(proxy: fx.Proxy) -> Any:
    return proxy.node.meta["val"]


def _constant(proxy: fx.Proxy) -> torch.Tensor | None:
    """The tensor a proxy stands for, if it depends on no input and no parameter."""
    assert isinstance(proxy.tracer, _Tracer)
    with proxy.tracer.evaluating():
        return constant_value(proxy.node)


def _number(proxy: fx.Proxy) -> Any:
    value = _concrete(proxy)
    if isinstance(value, torch.Tensor):
        constant = _constant(proxy)
        if constant is not None:
            return constant.item()
        raise TraceError(
            "the model turns a tensor's value into a Python number, which depends on the data"
            + _place()
            + "; compute it outside the model or with tensor operations (torch.where)"
        )
    return value


class _Tracer(fx.Tracer):
    """Symbolic tracer with concrete shapes; composite modules and wrapped functions are opened."""

    proxy_buffer_attributes = True

    def __init__(self, inputs: dict[str, Any]) -> None:
        super().__init__(autowrap_modules=(math,))
        self._inputs = inputs
        self._twins: dict[int, nn.Module] = {}
        self._opaque: set[Any] = set()
        self._names: dict[int, str] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.inside_evaluation = False

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]:
            self._names.setdefault(id(tensor), name)
        with torch.no_grad(), _factories_as_nodes(self):
            graph = super().trace(root, concrete_args)
        if not self._training.users:
            graph.erase_node(self._training)
        _remove_dead(graph)
        return graph

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if self.inside_evaluation or not isinstance(attr_val, torch.Tensor):
            return attr_val
        name = self._names.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        signature = inspect.signature(root_fn)
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in self._inputs]
        training = self.create_proxy("get_attr", "training", (), {})
        self._training = training.node
        modules = [m for m in self.root.modules() if not self.is_leaf_module(m, "")]

        def call(root: nn.Module, *values: Any) -> Any:
            named = dict(zip(self._inputs, values, strict=True))
            args, kwargs = _arrange(signature, named)
            modes = [(m, m.training) for m in modules]
            try:
                for m, mode in modes:
                    vars(m)["training"] = training if mode == root.training else mode
                return root_fn(root, *args, **kwargs)
            finally:
                for m, mode in modes:
                    vars(m)["training"] = mode

        return call, [self.root, *proxies]

    # ------------------------------------------------------------ what is a leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if REGISTRY.module(m) is not None:
            return True
        return id(m) in self._opaque

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        composite = COMPOSITES.module(m)
        if composite is not None and not self.is_leaf_module(m, ""):
            return composite(m, *args, **kwargs)
        if self.is_leaf_module(m, "") or not _from_torch(type(m)):
            return super().call_module(m, forward, args, kwargs)
        return self._inside_or_leaf(m, lambda: super(_Tracer, self).call_module(m, forward, args, kwargs))

    def _inside_or_leaf(self, key: Any, call: Callable[[], Any]) -> Any:
        """Trace into ``key``; if that fails, undo and make it a leaf."""
        last = next(iter(reversed(self.graph.nodes)), None)
        try:
            return call()
        except Exception:  # noqa: BLE001 - whatever its code raises on proxies, as a leaf it pins what reaches it
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self.graph.erase_node(node)
            self._opaque.add(id(key) if isinstance(key, nn.Module) else key)
            return call()

    # ------------------------------------------------------------ proxies

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor):
            name = self._names.get(id(a))
            if name is None:  # a tensor made while tracing, from no input: a constant of the graph
                name = f"_constant_{len(self.constants)}"
                self.constants[name] = a
                self._names[id(a)] = name
            return self.create_proxy("get_attr", name, (), {}).node
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        if kind == "call_function":
            composite = COMPOSITES.function(target)
            if composite is not None:
                return composite(*args, **kwargs)
            if inspect.isfunction(target) and REGISTRY.function(target) is None and not self._is_opaque(target):
                return self._inside_or_leaf(target, lambda: self._open(target, args, kwargs, rest, more))
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        proxy.node.meta["val"] = self._evaluate(proxy.node)
        return proxy

    def _is_opaque(self, target: Any) -> bool:
        package = (target.__module__ or "").split(".")[0]
        return target in self._opaque or package in ("torch", "math", "operator", "_operator")

    def _open(self, target: Any, args: Any, kwargs: Any, rest: Any, more: Any) -> Any:
        if target in self._opaque:
            return self.create_proxy("call_function", target, args, kwargs, *rest, **more)
        return target(*args, **kwargs)

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = _concrete(obj)
        if isinstance(value, torch.Tensor):
            constant = _constant(obj)
            if constant is not None:
                return bool(constant)
            raise TraceError(
                "the model branches on a tensor's value, which depends on the data"
                + _place()
                + "; use torch.where, or take the branch outside the model"
            )
        return bool(value)

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[i] for i in range(len(_concrete(obj)))])

    def keys(self, obj: fx.Proxy) -> Any:
        return list(_concrete(obj).keys())

    # ------------------------------------------------------------ values

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While a node is evaluated, attributes are the real ones and factories make tensors, not nodes."""
        before, self.inside_evaluation = self.inside_evaluation, True
        try:
            yield
        finally:
            self.inside_evaluation = before

    def _evaluate(self, node: fx.Node) -> Any:
        with self.evaluating():
            return self._value(node)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return _to_meta(self._inputs[str(node.target)])
        if node.op == "get_attr":
            if node.target == "training":
                return self.root.training
            name = str(node.target)
            tensor = self.constants[name] if name in self.constants else _fetch(self.root, name)
            node.meta["atofx.tensor"] = tensor
            return _to_meta(tensor)
        if node.op == "output":
            return None
        args = fx.node.map_arg(node.args, lambda n: n.meta["val"])
        kwargs = fx.node.map_arg(dict(node.kwargs), lambda n: n.meta["val"])
        module = None
        if node.op == "call_module":
            original = self.root.get_submodule(str(node.target))
            short_cut = _shape(original, args)
            if short_cut is not None:
                return short_cut
            module = self._twin(original)
        try:
            try:
                return _on_meta(meta_call(node, _to_meta(args), _to_meta(kwargs), module))
            except NotImplementedError:  # sizes that depend on values: a boolean mask, if it is a constant
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), _constant_or_meta)
                return _to_meta(meta_call(node, args, kwargs, module))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            shapes = [tuple(t.shape) for t in _flat_tensors((args, kwargs))]
            target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
            raise TraceError(
                f"{target} fails on inputs of shape {shapes} at the example input{_place()}: {error}"
            ) from error

    def _twin(self, module: nn.Module) -> nn.Module:
        if id(module) not in self._twins:
            self._twins[id(module)] = meta_twin(module)
        return self._twins[id(module)]


_FACTORIES = ("zeros", "ones", "full", "empty", "rand", "randn", "arange", "linspace", "eye")


@contextmanager
def _factories_as_nodes(tracer: _Tracer) -> Iterator[None]:
    """While tracing, tensors made in ``forward`` become nodes: their sizes may be proxies, which torch refuses."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def node_for(original: Any) -> Any:
        def factory(*args: Any, **kwargs: Any) -> Any:
            device = kwargs.get("device")
            on_meta = device is not None and not isinstance(device, fx.Proxy) and str(device) == "meta"
            if tracer.inside_evaluation or on_meta:
                return original(*args, **kwargs)
            return tracer.create_proxy("call_function", original, args, kwargs)

        return factory

    try:
        for name, original in originals.items():
            setattr(torch, name, node_for(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


def _fetch(root: nn.Module, name: str) -> Any:
    """The attribute of that qualified name, not through the patched ``__getattr__``."""
    owner: Any = root
    for part in name.split("."):
        stores = [vars(owner), *(vars(owner).get(s, {}) for s in ("_parameters", "_buffers", "_modules"))]
        owner = next((store[part] for store in stores if part in store), None)
    return owner


def _shape(module: nn.Module, args: tuple[Any, ...]) -> torch.Tensor | None:
    """The module's result by its record's short cut, None if it has to be run."""
    record = REGISTRY.module(module)
    if record is None or record.op.shape is None or len(args) != 1 or not isinstance(args[0], torch.Tensor):
        return None
    return record.op.shape(module, args[0])


def _remove_dead(graph: fx.Graph) -> None:
    """Erase nodes nobody reads, except modules (statistics), inputs and in-place changes."""
    for node in reversed(graph.nodes):
        if node.users or node.op not in ("call_function", "call_method", "get_attr"):
            continue
        if mutated_argument(node, None) is None:
            graph.erase_node(node)


def _arrange(signature: inspect.Signature, named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for a call of the unbound ``forward`` (its first parameter is the module)."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    rest = dict(named)
    positional = True
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            i = 0
            while f"{name}_{i}" in rest:
                args.append(rest.pop(f"{name}_{i}"))
                i += 1
        elif name in rest:
            if positional and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                args.append(rest.pop(name))
            else:
                kwargs[name] = rest.pop(name)
        else:
            positional = False
    return tuple(args), kwargs | rest


def _on_meta(value: Any) -> Any:
    """Factories without a device make real tensors; only their shape matters here."""
    return _to_meta(value) if isinstance(value, torch.Tensor) and value.device.type != "meta" else value


def _constant_or_meta(node: fx.Node) -> Any:
    constant = constant_value(node) if isinstance(node.meta["val"], torch.Tensor) else None
    return node.meta["val"] if constant is None else constant


def _from_torch(cls: type) -> bool:
    return cls.__module__.startswith("torch.nn") and not issubclass(cls, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def _to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if value.device.type == "meta" else as_meta(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_to_meta(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_to_meta(v) for v in value)
    if isinstance(value, dict):
        return {k: _to_meta(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(_to_meta(value.start), _to_meta(value.stop), _to_meta(value.step))
    if isinstance(value, torch.device):
        return torch.device("meta")
    return value


def _flat_tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _flat_tensors(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _flat_tensors(v)]
    return []


_NOT_THE_USERS = (*(str(Path(f or "").resolve().parent) for f in (torch.__file__, atofx.ops.__file__, __file__)), "<")


def _is_ours(filename: str) -> bool:
    return os.path.realpath(filename).startswith(_NOT_THE_USERS) or filename.startswith("<")


def _place() -> str:
    """`` (file:line: code)`` of the innermost frame of the user's code on the present stack."""
    return _format(traceback.extract_stack())


def _format(stack: traceback.StackSummary) -> str:
    for frame in reversed(stack):
        if not _is_ours(frame.filename):
            return f" ({frame.filename}:{frame.lineno}: {frame.line})"
    return ""


def _message(error: Exception, model: nn.Module) -> str:
    place = _format(traceback.extract_tb(error.__traceback__))
    return (
        f"{type(model).__name__} cannot be traced{place}: {type(error).__name__}: {error}. "
        "Check that model(*example_inputs) runs; control flow on tensor values and conversions to numpy or Python "
        "numbers cannot be traced, use tensor operations instead"
    )
