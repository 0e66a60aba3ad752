"""Replay an exported graph on the tracer's proxies: same records and values, leaf modules where the model has them."""

from __future__ import annotations

import inspect
import operator
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from atofx.errors import TraceError
from atofx.nn.sizes import expect_decision, expect_sizes
from atofx.ops import REGISTRY
from atofx.ops.aten import mode_argument
from atofx.passes.base import owner, stored
from atofx.passes.export import Exported, export_graph, free_sizes, inputs_of
from atofx.passes.inputs import arrange
from atofx.passes.place import quoted
from atofx.passes.proxy import concrete
from atofx.passes.size_formulas import Formulas, SizeChecks, checks_of
from atofx.passes.tracer import Tracer


class ExportTracer(Tracer):
    """Records what torch.export records; everything else is as in symbolic tracing."""

    def __init__(self, inputs: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        super().__init__(inputs, tensors)
        self._exported: Exported | None = None
        self.following: frozenset[fx.Node] = frozenset()
        self.replayed: fx.Node | None = None

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Export the module, then replay the export.

        Raises:
            TraceError: torch.export cannot record the module, or what it records depends on values.
        """
        args, kwargs = arrange(inspect.signature(type(root).forward), self.inputs)
        with torch.enable_grad():
            self._exported = export_graph(root, args, kwargs)
        self.following = _following(root, args, kwargs, self._exported.program.graph)
        return super().trace(root, concrete_args)

    def seeing(self) -> AbstractContextManager[Any]:
        """What is replayed is no code of the model's."""
        return nullcontext()

    def run(self, root: nn.Module, root_fn: Any, signature: inspect.Signature, named: Any) -> Any:
        """What the graph records: the exported calls."""
        assert self._exported is not None
        args, kwargs = arrange(signature, {k: _parts(p, self.inputs[k]) for k, p in named.items()})
        return _Replay(self, root, self._exported).run(pytree.tree_leaves((args, kwargs)))

    def source(self, node: fx.Node) -> tuple[str, int] | None:
        """The line that torch.export noted for the call that is replayed."""
        if self.replayed is None or not node.op.startswith("call"):
            return None
        return self.whereabouts.last(self.replayed.stack_trace)


@dataclass(frozen=True)
class _Region:
    """The calls of one call of a leaf module.

    Attributes:
        module: its qualified name.
        source: what it is called on.
        result: the last of its calls.
    """

    module: str
    source: fx.Node
    result: fx.Node


def _following(root: nn.Module, args: Any, kwargs: Any, graph: fx.Graph) -> frozenset[fx.Node]:
    """The calls whose mode argument is another one when the model is exported in its other mode.

    All that have the model's mode where that is not in doubt (only leaf modules have any), or where the two graphs
    cannot be compared, because Python decides by the mode what is called.
    """
    mine = [n for n in graph.nodes if mode_argument(n.target) is not None]
    same = frozenset(n for n in mine if _mode_of(n) is root.training)
    if all(_in_leaf(root, n) for n in mine):
        return same
    try:
        other = export_graph(root, args, kwargs, training=not root.training).program.graph
    except TraceError:
        return same
    others = [n for n in other.nodes if mode_argument(n.target) is not None]
    if [n.target for n in mine] != [n.target for n in others]:
        return same
    return frozenset(a for a, b in zip(mine, others, strict=True) if _mode_of(a) is not _mode_of(b))


def _in_leaf(root: nn.Module, node: fx.Node) -> bool:
    """Whether a call is part of a leaf module's, which becomes a call of that module again."""
    try:
        return REGISTRY.module(root.get_submodule(owner(node))) is not None
    except AttributeError:
        return False


def _mode_of(node: fx.Node) -> Any:
    position = mode_argument(node.target)
    return None if position is None or position >= len(node.args) else node.args[position]


def _expect_alike(node: fx.Node, value: Any, sizes: Mapping[sympy.Symbol, int]) -> None:
    """A call by the name a user would write has to give a tensor like the one that torch.export recorded.

    Raises:
        TraceError: it gives another shape or dtype.
    """
    recorded = node.meta.get("val")
    if not isinstance(recorded, torch.Tensor) or not isinstance(value, torch.Tensor):
        return
    symbolic: tuple[Any, ...] = tuple(recorded.shape)
    shape = [int(n) if is_concrete_int(n) else n.node.expr.xreplace(sizes) for n in symbolic]
    known = [(n, m) for n, m in zip(shape, value.shape, strict=False) if isinstance(n, (int, sympy.Integer))]
    if len(shape) != value.dim() or recorded.dtype != value.dtype or any(n != m for n, m in known):
        raise TraceError(
            f"{node.target}{_where(node)} gives {tuple(value.shape)} of {value.dtype} where torch.export recorded "
            f"{tuple(shape)} of {recorded.dtype}: the exported graph cannot be repeated; try "
            "frontend='symbolic', or write that call another way"
        )


class _Replay:
    def __init__(self, tracer: ExportTracer, root: nn.Module, exported: Exported) -> None:
        self.tracer = tracer
        self.root = root
        self.training = concrete(tracer.mode)
        self.exported = exported.program
        self.decisions = exported.decisions
        self.altered = exported.altered
        self.free = free_sizes(exported.program)
        self.checks = SizeChecks((), frozenset())
        self.env: dict[fx.Node, Any] = {}
        self.tensors: dict[fx.Node, str] = {}
        self.constants: dict[fx.Node, Any] = {}
        self.device: Any = None

    def run(self, inputs: list[Any]) -> Any:
        """The results, in the model's own containers."""
        graph = self.exported.graph_module.graph
        values = dict(zip(inputs_of(self.exported), inputs, strict=True))
        sizes = {symbol: int(concrete(values[node]).shape[dim]) for symbol, (node, dim) in self.free.items()}
        self.checks = checks_of(self.decisions, sizes)
        self._placeholders(graph, inputs)
        self._check_sizes()
        regions = _regions(graph, self.root, self.tensors, self.altered)
        results = {region.result: region for region in regions.values()}
        for node in graph.nodes:
            self.tracer.module_stack = OrderedDict(node.meta.get("nn_module_stack") or {})
            self.tracer.replayed = node
            if node in results:
                region = results[node]
                self.env[node] = self.root.get_submodule(region.module)(self._argument(region.source))
            elif node.op == "output":
                return self._outputs(node)
            elif node.op != "placeholder" and node not in regions:
                self.env[node] = self._call(node)
            if node.users and isinstance(self.env.get(node), fx.Proxy):  # of the rest, shapes are made up
                _expect_alike(node, concrete(self.env[node]), sizes)
        raise AssertionError("a graph ends with an output node")

    def _placeholders(self, graph: fx.Graph, inputs: list[Any]) -> None:
        """Enter the inputs; parameters and buffers are named, and constants become attributes, when first used."""
        rest = iter(inputs)
        placeholders = [n for n in graph.nodes if n.op == "placeholder"]
        for node, spec in zip(placeholders, self.exported.graph_signature.input_specs, strict=True):
            if spec.kind is InputKind.USER_INPUT:
                value = next(rest)
                self.env[node] = spec.arg.value if isinstance(spec.arg, ConstantArgument) else self._sized(node, value)
                if self.device is None and isinstance(node.meta.get("val"), torch.Tensor):
                    self.device = (node.meta["val"].device, value)
            elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                assert spec.target is not None
                self.tensors[node] = spec.target
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                assert spec.target is not None
                self.constants[node] = self.exported.constants[spec.target]
            else:
                raise TraceError(f"the exported graph takes {spec.kind.name.lower()} {spec.target}, which is no tensor")

    def _sized(self, node: fx.Node, value: Any) -> Any:
        """An input, refused later with other sizes than those that torch.export took for constants."""
        shape = getattr(node.meta.get("val"), "shape", ())
        sizes = [
            int(n) if is_concrete_int(n) else concrete(value).shape[dim] if self.checks.fixes(n) else None
            for dim, n in enumerate(shape)
        ]
        if sizes.count(None) == len(sizes):
            return value
        return self.tracer.create_proxy("call_function", expect_sizes, (value, tuple(sizes)), {})

    def _check_sizes(self) -> None:
        """Refuse later inputs for whose sizes something is decided otherwise."""

        def call(function: Any, args: tuple[Any, ...]) -> Any:
            return self.tracer.create_proxy("call_function", function, args, {})

        sizes = {symbol: self.env[node].size(dim) for symbol, (node, dim) in self.free.items()}
        formula = Formulas(sizes, call)
        for node in inputs_of(self.exported):
            for dim, size in enumerate(getattr(node.meta.get("val"), "shape", ())):
                if not is_concrete_int(size) and self.free.get(size.node.expr) != (node, dim):
                    same = call(operator.eq, (self.env[node].size(dim), formula(size.node.expr)))
                    call(expect_decision, (same, True, f" (size {dim} of {node.name} follows from others)"))
        for decision, number in self.checks.numbers:
            call(expect_decision, (formula(decision.expression), number, quoted(decision.line)))

    def _call(self, node: fx.Node) -> Any:
        if node.op == "get_attr":  # the body of a block such as `with torch.no_grad():`
            return getattr(self.exported.graph_module, str(node.target))
        given: Any = fx.node.map_aggregate((node.args, dict(node.kwargs)), self._argument)
        args, kwargs = given
        target: Any = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._block(node, target.name(), args)
        if str(getattr(target, "__module__", "")).startswith("torch._functorch"):
            raise TraceError(
                f"the exported graph holds a transform of torch.func{_where(node)}, which no graph repeats; write "
                "the call for a whole batch"
            )
        if target is operator.getitem and isinstance(args[0], (tuple, list)):  # of the results of a block
            return args[0][args[1]]
        return self.tracer.create_proxy("call_function", target, self._with_mode(node, list(args)), dict(kwargs))

    def _argument(self, value: Any) -> Any:
        """A node's counterpart; the example's own device becomes that of the later inputs."""
        if isinstance(value, fx.Node):
            if value not in self.env:
                self.env[value] = self._attribute(value)
            return self.env[value]
        if isinstance(value, torch.device) and self.device is not None and value == self.device[0]:
            return self.tracer.create_proxy("call_function", getattr, (self.device[1], "device"), {})
        return value

    def _attribute(self, node: fx.Node) -> Any:
        """A parameter, buffer or constant."""
        if node in self.tensors:
            return self.tracer.create_proxy("get_attr", self.tensors[node], (), {})
        return self.tracer.proxy(self.tracer.create_arg(self.constants[node]))

    def _with_mode(self, node: fx.Node, args: list[Any]) -> tuple[Any, ...]:
        """Arguments that follow the mode do so from now on, and so does attention's dropout."""
        target: Any = node.target
        position = mode_argument(target)
        if position is not None and position < len(args) and node in self.tracer.following:
            args[position] = self.tracer.mode
        attends = target is torch.ops.aten.scaled_dot_product_attention.default
        if attends and self.training and len(args) > 4 and args[4]:
            args[4] = args[4] * self.tracer.mode
        return tuple(args)

    def _block(self, node: fx.Node, name: str, args: Any) -> Any:
        """Blocks that do not change values are part of the graph they stand in."""
        count = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}.get(name)
        if count is None or (name == "wrap_with_autocast" and args[2]):
            raise TraceError(f"the exported graph holds a block {name}{_where(node)}, which has no record")
        body, *values = args[count:]
        gradients = bool(args[0]) if name == "wrap_with_set_grad_enabled" else torch.is_grad_enabled()
        outer, self.env = self.env, {}
        try:
            inner = iter(values)
            with torch.set_grad_enabled(gradients):
                for part in body.graph.nodes:
                    if part.op == "placeholder":
                        self.env[part] = next(inner)
                    elif part.op == "output":
                        return fx.node.map_arg(part.args[0], self._argument)
                    else:
                        self.env[part] = self._call(part)
        finally:
            self.env = outer
        raise AssertionError("a graph ends with an output node")

    def _outputs(self, node: fx.Node) -> Any:
        values = [self._argument(v) for v in node.args[0]]  # type: ignore[union-attr]
        return self._rebuilt(self.exported.call_spec.out_spec, iter(values))

    def _rebuilt(self, spec: Any, leaves: Iterator[Any]) -> Any:
        """Tuples, lists, dicts, named tuples and kinds of OrderedDict as the model returns them, others as tuples."""
        if spec.is_leaf():
            return next(leaves)
        parts = [self._rebuilt(child, leaves) for child in _children(spec)]
        if spec.type is list:
            return parts
        if spec.type in (dict, OrderedDict):
            return spec.type(zip(spec.context, parts, strict=True))
        if inspect.isclass(spec.context) and hasattr(spec.context, "_fields"):  # `spec.type` is no class then
            return spec.context(*parts)
        if issubclass(spec.type, OrderedDict):
            return self.tracer.create_proxy("call_function", spec.type, (), dict(zip(spec.context, parts, strict=True)))
        return tuple(parts)


def _where(node: fx.Node) -> str:
    place = (node.stack_trace or "").strip().splitlines()
    return f" ({place[-2].strip()})" if len(place) > 1 else ""


def _children(spec: Any) -> list[Any]:
    children = getattr(spec, "children", None)
    return list(children() if callable(children) else spec.children_specs)


def _parts(proxy: Any, value: Any) -> Any:
    """The proxies of the tensors in an input."""
    if isinstance(value, dict):
        return {key: _parts(proxy[key], part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_parts(proxy[i], part) for i, part in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return proxy


def _regions(
    graph: fx.Graph, root: nn.Module, tensors: Mapping[fx.Node, str], altered: Collection[nn.Module]
) -> dict[fx.Node, _Region]:
    """The calls that are the insides of leaf modules: of one input and one result, on nothing but their tensors."""
    calls: dict[str, tuple[str, list[fx.Node]]] = {}
    leaves: dict[str, bool] = {}
    for node in graph.nodes:
        for key, (name, _) in (node.meta.get("nn_module_stack") or {}).items():
            if name not in leaves:
                leaves[name] = _is_leaf(root, name, altered)
            if leaves[name]:
                calls.setdefault(key, (name, []))[1].append(node)
                break
    found = {}
    for name, nodes in calls.values():
        region = _region(root, name, nodes, tensors)
        if region is not None:
            found.update(dict.fromkeys(nodes, region))
    return found


def _is_leaf(root: nn.Module, name: str, altered: Collection[nn.Module]) -> bool:
    """Whether calls of this module can be told from their input alone."""
    try:
        module = root.get_submodule(name)
    except AttributeError:
        return False
    if REGISTRY.module(module) is None or module in altered:
        return False
    return len(inspect.signature(module.forward).parameters) == 1


def _region(root: nn.Module, name: str, nodes: list[fx.Node], tensors: Mapping[fx.Node, str]) -> _Region | None:
    inside = set(nodes)
    module = root.get_submodule(name)
    own = {id(t) for t in [*module.parameters(), *module.buffers()]}
    sources = {s for n in nodes for s in n.all_input_nodes if s not in inside}
    sources = {s for s in sources if s not in tensors or id(stored(root, tensors[s])) not in own}
    results = {n for n in nodes if any(user not in inside for user in n.users)}
    if len(sources) != 1 or len(results) != 1:
        return None
    source, result = sources.pop(), results.pop()
    return _Region(name, source, result) if isinstance(source.meta.get("val"), torch.Tensor) else None
