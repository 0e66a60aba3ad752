"""The tracer: symbolic, with concrete shapes; composite modules and wrapped functions are opened."""

from __future__ import annotations

import inspect
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from atofx.errors import TraceError
from atofx.ir.values import holds
from atofx.nn.sizes import expect_decision
from atofx.ops import COMPOSITES, REGISTRY
from atofx.ops.inplace import mutated_argument
from atofx.passes.base import modules_by_name, stored
from atofx.passes.decisions import depends_on_sizes
from atofx.passes.evaluation import Evaluator, shape_of_call
from atofx.passes.hooks import between_hooks, has_forward_hooks, without_forward_hooks
from atofx.passes.inputs import arrange
from atofx.passes.own_tensors import OwnTensorsAsNodes
from atofx.passes.patches import autocast_refused, factories_as_nodes, math_as_nodes
from atofx.passes.place import Whereabouts, place, quoted
from atofx.passes.proxy import ValueProxy, concrete, constant_of
from atofx.passes.restore import Before

#: Node meta: file and line of the model's code that made it, None where that is not known.
SOURCE = "atofx.source"


@dataclass(frozen=True, eq=False)
class _Taken:
    """A proxy whose number was taken, by what was called at which instruction of which frame, and on which line."""

    proxy: fx.Proxy
    frame: FrameType
    instruction: int
    line: tuple[str, int] | None


class Tracer(fx.Tracer):
    """Symbolic tracer with concrete shapes; composite modules and wrapped functions are opened."""

    proxy_buffer_attributes = True

    def __init__(self, inputs: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """A tracer for one model.

        Args:
            inputs: example inputs by the names of the placeholders.
            tensors: the model's parameters and buffers by every name they go by.
        """
        super().__init__(autowrap_modules=(math,))
        self.tensors = tensors
        self.inputs = inputs
        self._opaque: set[Any] = set()
        self._recorded: dict[nn.Module, bool] = {}
        self._names = {id(tensor): name for name, tensor in reversed(tensors.items())}  # the first name of each
        self.leaves: dict[str, nn.Module] = {}
        self.whereabouts = Whereabouts()
        self.constants: dict[str, torch.Tensor] = {}
        self._evaluator = Evaluator(inputs, self.constants, self._opaque)
        self._checked: dict[fx.Node, fx.Node] = {}
        self._taken: list[_Taken] = []
        self._gradient_free: set[fx.Node] = set()
        self.inside_evaluation = False
        self.before: Before | None = None  # what the modules were set to; not known of all that is traced

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """The graph of a module; every node has its value at the example input."""
        self._model = root
        # with gradients, so that the model's own blocks without them are seen
        with torch.enable_grad(), factories_as_nodes(self), math_as_nodes(self), self.seeing():
            # of a module fx would look at every attribute first: for tensors, which are known here
            graph = super().trace(type(root).forward, concrete_args)
        if not self._training.users:
            graph.erase_node(self._training)
        _remove_dead(graph)
        for node in graph.nodes:
            if node.meta.get("is_wrapped") and not (inspect.isfunction(node.target) and _is_foreign(node.target)):
                del node.meta["is_wrapped"]  # fx marks the last node of an opened function as if it were the function
        return graph

    def seeing(self) -> AbstractContextManager[Any]:
        """What else is seen of the model's own code."""
        stack = ExitStack()
        stack.enter_context(OwnTensorsAsNodes(self, self._names.copy()))
        stack.enter_context(autocast_refused(self))
        return stack

    def named(self, graph: fx.Graph) -> dict[str, Any]:
        """Every module, parameter and buffer that a graph of this tracer names."""
        found: dict[str, Any] = {}
        for node in graph.nodes:
            if node.op == "call_module":
                found[str(node.target)] = self.leaves[str(node.target)]
            elif node.op == "get_attr":
                name = str(node.target)
                found[name] = self.constants[name] if name in self.constants else stored(self.root, name)
        return found

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Parameters and buffers become nodes."""
        if self.inside_evaluation or not isinstance(attr_val, torch.Tensor):
            return attr_val
        name = self._names.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache or parameter_proxy_cache[name].node._erased:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """A placeholder for every given input; ``self.training`` is a node too."""
        self.root = self._model
        # a module that goes by several names is called by its first
        self.submodule_paths = {module: name for name, module in reversed(modules_by_name(self.root))}
        signature = inspect.signature(root_fn)
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in self.inputs]
        training = self.create_proxy("get_attr", "training", (), {})
        self._training = training.node
        self.mode = training
        own = self.root.training
        modules = [m for m in self.submodule_paths if not self.is_leaf_module(m, "")]

        def call(root: nn.Module, *values: Any) -> Any:
            named = dict(zip(self.inputs, values, strict=True))
            modes = [(m, m.training) for m in modules]
            try:
                for m, mode in modes:
                    vars(m)["training"] = training if mode == own else mode
                return self.run(root, root_fn, signature, named)
            finally:
                for m, mode in modes:
                    vars(m)["training"] = mode

        return call, [self.root, *proxies]

    def run(self, root: nn.Module, root_fn: Callable[..., Any], signature: inspect.Signature, named: Any) -> Any:
        """What the graph records: the model's ``forward`` on proxies of the inputs."""
        args, kwargs = arrange(signature, named)
        return root_fn(root, *args, **kwargs)

    # ------------------------------------------------------------ what is a leaf

    def path_of_module(self, mod: nn.Module) -> str:
        """The qualified name of a module, remembered with it."""
        path = super().path_of_module(mod)
        self.leaves.setdefault(path, mod)
        return path

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What has a record is a leaf, and what could not be traced into."""
        if m not in self._recorded:
            self._recorded[m] = REGISTRY.module(m) is not None
        return self._recorded[m] or id(m) in self._opaque

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Open composite modules, look into modules without a record, call the others as they are; hooks are run."""
        if self.is_leaf_module(m, ""):
            return self._leaf(m, forward, args, kwargs)
        if COMPOSITES.module(m) is not None:
            return self._call(m, forward, args, kwargs)
        if not _from_torch(type(m)):
            return self._through(m, forward, args, kwargs)
        if m._forward_pre_hooks and not any(True for _ in m.children()):
            raise TraceError(
                f"{self.path_of_module(m)} ({type(m).__name__}) computes its weight in a forward hook, "
                "as the old weight_norm and spectral_norm do; remove them before tracing "
                "(torch.nn.utils.remove_weight_norm, remove_spectral_norm)"
            )
        return self._inside_or_leaf(m, partial(self._call, m, forward, args, kwargs))

    def _call(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a composite module, of a leaf, or else of what is inside of one of torch's."""
        if self.is_leaf_module(m, ""):
            return self._leaf(m, forward, args, kwargs)
        composite = COMPOSITES.module(m)
        if composite is None:
            return super().call_module(m, forward, args, kwargs)
        path = self.path_of_module(m)
        if has_forward_hooks(m):
            return self._hooked(m, path, forward, partial(composite, m), args, kwargs)
        return self._inside(m, path, partial(composite, m, *args, **kwargs))

    def _leaf(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = self.path_of_module(m)
        if self.before is not None and self.before.is_set(m):
            return self._set_for_now(m, partial(self._through, m, forward, args, kwargs))
        if not has_forward_hooks(m):
            return self._inside(m, path, partial(self.create_proxy, "call_module", path, args, kwargs))

        def instead(*args: Any, **kwargs: Any) -> Any:
            return self.create_proxy("call_module", path, args, kwargs)

        return self._hooked(m, path, forward, instead, args, kwargs)

    def _set_for_now(self, m: nn.Module, call: Callable[[], Any]) -> Any:
        """The result of looking into a layer that is set otherwise than before the call; its mode is the model's."""
        own = m.training
        if own == self.root.training:
            vars(m)["training"] = self.mode
        try:
            return call()
        finally:
            vars(m)["training"] = own

    def _hooked(
        self,
        m: nn.Module,
        path: str,
        forward: Callable[..., Any],
        instead: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The result of a module whose hooks run, ``instead`` in the place of its own ``forward``."""
        if self.leaves[path] is m:
            self.leaves[path] = without_forward_hooks(m)  # what they do is in the graph
        return self._inside(m, path, partial(between_hooks, m, forward, instead, args, kwargs))

    def _through(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a module's ``forward``: what fx does, without the scopes that nobody reads here."""
        path = self.path_of_module(m)
        calls = self.num_calls.get(path, 0)
        self.num_calls[path] = calls + 1
        self.module_stack[f"{path}@{calls}" if calls else path] = (path, type(m))
        result = forward(*args, **kwargs)
        self.module_stack.popitem()
        return result

    def _inside(self, m: nn.Module, path: str, call: Callable[[], Any]) -> Any:
        """The result of a call; nodes made meanwhile belong to the module of that path."""
        self.module_stack[path] = (path, type(m))
        try:
            return call()
        finally:
            self.module_stack.pop(path, None)

    def _inside_or_leaf(self, key: Any, call: Callable[[], Any]) -> Any:
        """Trace into ``key``; if that fails, undo and make it a leaf."""
        last = next(iter(reversed(self.graph.nodes)), None)
        stack = self.module_stack.copy()
        try:
            return call()
        except Exception:  # noqa: BLE001 - whatever its code raises on proxies, as a leaf it pins what reaches it
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self.graph.erase_node(node)
            self.module_stack = stack
            self._taken.clear()
            self._opaque.add(id(key) if isinstance(key, nn.Module) else key)
            return call()

    # ------------------------------------------------------------ proxies

    def create_arg(self, a: Any) -> Any:
        """Tensors made while tracing, from no input, are constants of the graph."""
        kind = type(a)
        if kind in _PLAIN or (kind in (tuple, dict) and not a):
            return a
        if kind is ValueProxy:
            return a.node
        if kind is tuple:
            return tuple([self.create_arg(item) for item in a])
        if isinstance(a, torch.Tensor):
            name = self._names.get(id(a))
            if name is None:  # a tensor made while tracing, from no input: a constant of the graph
                name = f"_constant_{len(self.constants)}"
                self.constants[name] = a
                self._names[id(a)] = name
            return self.create_proxy("get_attr", name, (), {}).node
        if type(a) is OrderedDict:  # fx would make it a plain dict
            return self.create_proxy("call_function", OrderedDict, (list(a.items()),), {}).node
        if isinstance(a, OrderedDict) and type(a) in pytree.SUPPORTED_NODES:  # such as Hugging Face's outputs
            return self.create_proxy("call_function", type(a), (), dict(a)).node
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Proxies know their values."""
        return ValueProxy(node, self)

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None
    ) -> fx.Node:
        """A node that knows the modules whose code makes it."""
        if self._taken:  # the output, which is made without a proxy
            self._settle()
        if name is None and kind in ("call_module", "get_attr") and target.islower():
            name = target.replace(".", "_")  # the name that fx would find, in more steps
        node = self.graph.create_node(kind, target, (), {}, name, type_expr)
        node.args = args  # set here, fx does not search them for symbolic sizes, which are none
        if kwargs:
            node.kwargs = kwargs
        if self.module_stack:
            node.meta["nn_module_stack"] = self.module_stack.copy()
        return node

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        """Open composite and wrapped functions; evaluate every new node."""
        if self._taken:
            self._settle()
        if kind in ("call_function", "call_module") and not args:
            args, kwargs = _first_by_position(kwargs)
        if kind == "call_function":
            composite = COMPOSITES.function(target)
            if composite is not None:
                return composite(*args, **kwargs)
            if inspect.isfunction(target) and REGISTRY.function(target) is None and not self._is_opaque(target):
                return self._inside_or_leaf(target, lambda: self._open(target, args, kwargs, rest, more))
        if kind == "call_method" and target in _NEW_SHAPE_IN_PLACE:
            raise TraceError(
                f"Tensor.{target} changes the shape of a tensor in place{place()}, which cannot be traced; assign the "
                f"result of {target.removesuffix('_')} instead"
            )
        if kind == "call_module" and target not in self.leaves:
            self.leaves[target] = self.root.get_submodule(target)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        proxy.node.meta["val"] = self._evaluate(proxy.node)
        proxy.node.meta[SOURCE] = self.source(proxy.node)
        return proxy if torch.is_grad_enabled() else self._without_gradient(proxy)

    def source(self, node: fx.Node) -> tuple[str, int] | None:
        """File and line of the model's code that made a node just now."""
        if not node.op.startswith("call"):
            return None
        return self.whereabouts.now(3)  # here and in `create_proxy`, which calls this, there is nothing to look for

    # ------------------------------------------------------------ blocks without gradients

    def _without_gradient(self, proxy: fx.Proxy) -> Any:
        """What the model computes under ``torch.no_grad()`` has no gradient in the graph either: its inputs lose it.

        The parameters of a module would still get some: there the results lose it.
        """
        node = proxy.node
        if not node.op.startswith("call") or node.target == "detach" or not holds(concrete(proxy), torch.Tensor):
            return proxy
        if node.op == "call_module":
            return self._detached(proxy)
        for source in node.all_input_nodes:
            if self._may_have_gradient(source):
                with self.graph.inserting_before(node):
                    detached = self._detached(self.proxy(source))
                node.replace_input_with(source, detached.node)
        self._gradient_free.add(node)
        return proxy

    def _detached(self, proxy: Any) -> Any:
        value = concrete(proxy)
        if type(value) in (tuple, list):
            return type(value)([self._detached(proxy[i]) for i in range(len(value))])
        if not isinstance(value, torch.Tensor):
            return proxy
        found = self.create_proxy("call_method", "detach", (proxy,), {})
        self._gradient_free.add(found.node)
        return found

    def _may_have_gradient(self, node: fx.Node) -> bool:
        value = node.meta["val"]
        if node in self._gradient_free or not isinstance(value, torch.Tensor):
            return False
        if node.op == "get_attr" and not isinstance(self.tensors.get(str(node.target)), nn.Parameter):
            return False
        return value.is_floating_point() or value.is_complex()

    def _is_opaque(self, target: Any) -> bool:
        return target in self._opaque or not _is_foreign(target)

    def _open(self, target: Any, args: Any, kwargs: Any, rest: Any, more: Any) -> Any:
        if target in self._opaque:
            return self.create_proxy("call_function", target, args, kwargs, *rest, **more)
        result = target(*args, **kwargs)
        if isinstance(result, fx.Proxy):
            return result
        if type(result) in (tuple, list):
            return _Several(result)
        raise TypeError(f"{target} returns {type(result).__name__}")

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Follow control flow on shapes and constants.

        Raises:
            TraceError: the branch depends on the data.
        """
        value = concrete(obj)
        if isinstance(value, torch.Tensor):
            constant = constant_of(obj)
            if constant is not None:
                return bool(constant)
            raise TraceError(
                "the model branches on a tensor's value, which depends on the data"
                + place()
                + "; use torch.where, or take the branch outside the model"
            )
        self._decided(obj, self.whereabouts.now())
        return bool(value)

    def iter(self, obj: Any) -> Iterator[Any]:
        """Unpack by the known length."""
        return iter([obj[i] for i in range(self.counted(obj))])

    def keys(self, obj: fx.Proxy) -> Any:
        """The known keys."""
        return list(concrete(obj).keys())

    # ------------------------------------------------------------ decisions

    def _decided(self, proxy: fx.Proxy, line: tuple[str, int] | None) -> None:
        """Let the graph check a number that the model's Python code has taken, if it depends on the inputs' sizes."""
        node, value = proxy.node, concrete(proxy)
        if (node in self._checked and not self._checked[node]._erased) or not depends_on_sizes(node):
            return
        if isinstance(value, (bool, int, float)):
            check = self.create_proxy("call_function", expect_decision, (proxy, value, quoted(line)), {})
            self._checked[node] = check.node
        else:  # a list or a tuple that is asked whether it is empty
            self.counted(proxy)

    def taken(self, proxy: fx.Proxy, frame: FrameType) -> None:
        """A decision, unless torch only looks at the types of its arguments and then hands on the proxy.

        Such a call of torch becomes a node while the same instruction of ``frame`` runs.
        """
        self._taken.append(_Taken(proxy, frame, frame.f_lasti, self.whereabouts.now()))

    def _settle(self) -> None:
        """Check the numbers that were taken, as the next node is about to be made."""
        caller = sys._getframe(2)
        if caller.f_code is _TORCH_FUNCTION:
            running = {frame: frame.f_lasti for frame in _calling(caller)}
            self._taken = [t for t in self._taken if running.get(t.frame) != t.instruction]
        settled, self._taken = self._taken, []
        for taken in settled:
            self._decided(taken.proxy, taken.line)

    def counted(self, proxy: fx.Proxy) -> int:
        """The number of elements; the graph checks how many pieces a tensor has."""
        value = concrete(proxy)
        if holds(value, torch.Tensor) and not self.inside_evaluation:
            self._decided(self.create_proxy("call_function", len, (proxy,), {}), self.whereabouts.now())
        return len(value)

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
        original = self.leaves[str(node.target)] if node.op == "call_module" else None
        with torch._C.DisableTorchFunction():
            short_cut = shape_of_call(node, original)
            if short_cut is not None:
                return short_cut
            with self.evaluating(), torch.no_grad():
                return self._evaluator.value(node, original, self.root)


_TORCH_FUNCTION = vars(fx.Proxy)["__torch_function__"].__func__.__code__
_MODE = OwnTensorsAsNodes.__torch_function__.__code__
_PLAIN = frozenset({int, float, bool, str, type(None)})
_NEW_SHAPE_IN_PLACE = frozenset(
    {"squeeze_", "unsqueeze_", "transpose_", "swapaxes_", "swapdims_", "t_", "resize_", "resize_as_", "as_strided_"}
)


def _calling(frame: FrameType) -> Iterator[FrameType]:
    """The frame that called one of torch's, and those of the mode between them."""
    while frame.f_back is not None:
        frame = frame.f_back
        yield frame
        if frame.f_code is not _MODE:
            return


def _is_foreign(function: Any) -> bool:
    """Whether a function is neither torch's nor Python's."""
    return (function.__module__ or "").split(".")[0] not in ("torch", "math", "operator", "_operator")


class _Several(tuple[Any, ...]):
    """The results of an opened function; fx expects what a wrapped function returns to have a node."""

    __slots__ = ()
    node = SimpleNamespace(meta={})


def _first_by_position(kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One spelling for calls that name their first argument: ``f(input=x)`` becomes ``f(x)``."""
    for name in ("input", "tensors"):
        if name in kwargs:
            return (kwargs[name],), {k: v for k, v in kwargs.items() if k != name}
    return (), kwargs


def _remove_dead(graph: fx.Graph) -> None:
    """Erase nodes nobody reads, except modules (statistics), inputs and in-place changes."""
    for node in reversed(graph.nodes):
        if node.users or node.op not in ("call_function", "call_method", "get_attr"):
            continue
        if mutated_argument(node, None) is None and node.target is not expect_decision:
            graph.erase_node(node)


def _from_torch(cls: type) -> bool:
    return cls.__module__.startswith("torch.nn") and not issubclass(cls, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
