"""Model and example inputs -> graph with a meta value at every node.

Symbolic tracing that also runs on shapes: every proxy knows what it evaluates to at the example input, so control flow
on shapes is followed (and fixed), while sizes stay dynamic in the emitted code.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import fx, nn
from torch.nn.modules.lazy import LazyModuleMixin

from atofx.errors import ConfigError, StateError, TraceError
from atofx.ir.blueprint import Blueprint
from atofx.passes.base import modules_by_name, passing_buffers, tensors_by_name
from atofx.passes.hooks import has_forward_hooks
from atofx.passes.inputs import ExampleInputs, bind_inputs
from atofx.passes.place import format_stack
from atofx.passes.repeat import refuse_unlike_calls
from atofx.passes.replay import ExportTracer
from atofx.passes.restore import attributes_restored
from atofx.passes.simplify import name_deviations
from atofx.passes.state import refuse_state
from atofx.passes.tracer import Tracer

Frontend = Literal["auto", "symbolic", "export"]


@dataclass(frozen=True)
class Capture:
    """How a graph was captured.

    Attributes:
        frontend: ``"symbolic"``, ``"export"``, or ``"regions"`` of a model that neither takes whole.
        reason: why that one, in words.
    """

    frontend: str
    reason: str

    def __str__(self) -> str:
        return f"{_READABLE[self.frontend]} ({self.reason})"


_READABLE = {"symbolic": "symbolic tracing", "export": "torch.export", "regions": "tracing its submodules"}


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced model.

    Attributes:
        blueprint: the graph on the model's own modules and parameters; every node has ``meta["val"]``, tensors on the
            meta device.
        tensors: every parameter and buffer of the *model* by qualified name, and constants of the graph.
        inputs: the example inputs, as given.
        unused: parameters and buffers of the model that the graph does not use.
        constants: tensors of the graph that are neither parameters nor buffers of the model, by name.
        passing: buffers of the model that are no part of its state dict, by every name.
        capture: which front end captured the graph, and why.
    """

    blueprint: Blueprint
    tensors: dict[str, torch.Tensor]
    inputs: ExampleInputs
    unused: tuple[str, ...]
    constants: frozenset[str]
    passing: frozenset[str]
    capture: Capture

    @property
    def graph(self) -> fx.Graph:
        """The graph."""
        return self.blueprint.graph

    @property
    def module(self) -> fx.GraphModule:
        """The graph as a module, which shares modules and parameters with the model."""
        return self.blueprint.module

    def arguments(self) -> tuple[Any, ...]:
        """Example inputs of :attr:`module` in the order of its placeholders."""
        if isinstance(self.inputs, Mapping):
            return tuple(self.inputs[str(n.target)] for n in self.graph.nodes if n.op == "placeholder")
        return self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)

    def results(self, output: fx.Node) -> tuple[tuple[Any, str], ...]:
        """What the output node hands out, and why its shape must not change."""
        return ((output.args, "reaches the model's output, whose shape must not change"),)

    def entering(self, node: fx.Node) -> str:
        """What to add to the reason where a node reads an input and that keeps channels whole."""
        return ""

    def times(self, node: fx.Node) -> int:
        """How often a node runs in one forward pass on the example."""
        return 1


class NoFrontendError(TraceError):
    """Neither front end takes the whole model."""

    def __init__(self, symbolic: TraceError, export: TraceError) -> None:
        super().__init__(f"{symbolic}\nNor can torch.export take the model: {export}")
        self.symbolic = symbolic


def trace(model: nn.Module, example_inputs: ExampleInputs, frontend: Frontend = "auto") -> Traced:
    """Trace a model.

    Args:
        model: any module; it is left as it was (parameters, buffers, attributes, mode, hooks, RNG state).
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        frontend: ``"symbolic"`` tracing, torch's ``"export"``, or ``"auto"``: symbolic, and export where that cannot.

    Raises:
        TraceError: the model has control flow on values or cannot run on the example; names the user's file and line.
        ConfigError: an unknown front end.
    """
    if frontend not in get_args(Frontend):
        raise ConfigError(f"no front end {frontend!r}; frontend is one of {', '.join(get_args(Frontend))}")
    inputs = bind_inputs(model, example_inputs)
    parameters, buffers = tensors_by_name(model)
    tensors: dict[str, torch.Tensor] = {**parameters, **buffers}
    if frontend == "export":
        _refuse_state_beside_buffers(model, inputs, tensors)
        refuse_unlike_calls(model, example_inputs)
        return _captured(ExportTracer(inputs, tensors), model, example_inputs, Capture("export", "as asked for"))
    try:
        why = "as asked for" if frontend == "symbolic" else "it takes the whole model"
        return _captured(Tracer(inputs, tensors), model, example_inputs, Capture("symbolic", why))
    except TraceError as refused:
        if frontend == "symbolic" or (isinstance(refused, StateError) and not refused.only_buffers):
            raise
        try:
            refuse_unlike_calls(model, example_inputs)
            capture = Capture("export", f"symbolic tracing cannot take the model: {refused}")
            return _captured(ExportTracer(inputs, tensors), model, example_inputs, capture)
        except TraceError as error:
            raise NoFrontendError(refused, error) from error


def require_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of a model by every name; it has to be one, all of it Python code whose parameters have shapes.

    Raises:
        TraceError: it is none, or torch.jit has compiled a part of it, or a lazy layer was not called yet; says which.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"trace needs a torch.nn.Module, got {type(model).__name__}")
    modules = modules_by_name(model)
    if not any(issubclass(kind, _NOT_YET_LAYERS) for kind in {type(module) for _, module in modules}):
        return modules
    for path, module in modules:
        name = f"{type(model).__name__}.{path}" if path else type(model).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceError(
                f"{name} was compiled by torch.jit, which leaves no Python code to trace; trace the model before "
                "torch.jit.script or torch.jit.trace, and compile the compact one"
            )
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
            raise TraceError(
                f"{name} ({type(module).__name__}) does not know the shapes of its parameters yet; call the model "
                "once on the example before tracing it"
            )
    return modules


_NOT_YET_LAYERS = (torch.jit.ScriptModule, LazyModuleMixin)


def refuse_more_than_forward(model: nn.Module) -> None:
    """A graph of a model's ``forward`` runs neither hooks on the model itself nor a ``__call__`` of its own.

    Raises:
        TraceError: it has some.
    """
    # that of a graph module only shows the line of its code in which something failed
    if type(model).__call__ is not nn.Module.__call__ and not isinstance(model, fx.GraphModule):
        raise TraceError(
            f"{type(model).__name__} has a __call__ of its own, which a graph of its forward would not run; do what it "
            "does in forward, or trace a model that holds it"
        )
    if has_forward_hooks(model):
        raise TraceError(
            f"{type(model).__name__} itself has forward hooks, which a graph of its forward would not run; register "
            "them on a submodule, or remove them before tracing"
        )


def _captured(tracer: Tracer, model: nn.Module, example_inputs: ExampleInputs, capture: Capture) -> Traced:
    states = (random.getstate(), torch.get_rng_state())
    try:
        with attributes_restored(model) as before:
            tracer.before = before
            graph = tracer.trace(model)
            name_deviations(graph, tracer.leaves)
            if not isinstance(tracer, ExportTracer):
                refuse_state(model, tracer, graph, before)
    except TraceError:
        raise
    except Exception as error:  # the user's own forward may raise anything
        raise TraceError(_message(error, model)) from error
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
    attributes = tracer.named(graph)
    tensors = dict(tracer.tensors)
    passing = passing_buffers(model)
    own = tracer.constants.keys() & attributes.keys()
    borrowed = passing & attributes.keys()
    blueprint = Blueprint(graph, attributes, type(model).__name__, model.training, frozenset(own | borrowed))
    reachable = dict(blueprint.tensors())
    used = {id(tensor) for tensor in reachable.values()}
    for name in attributes:
        if name in reachable:
            tensors.setdefault(name, reachable[name])
    unused = tuple(name for name, t in tensors.items() if id(t) not in used)
    # a tied tensor goes by a name in use
    ordered = {name: tensor for name, tensor in tensors.items() if name in reachable} | tensors
    return Traced(blueprint, ordered, example_inputs, unused, frozenset(own), passing, capture)


def _refuse_state_beside_buffers(model: nn.Module, inputs: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Torch.export follows buffers that are replaced, and says nothing of other attributes: symbolic tracing does."""
    tracer = Tracer(inputs, tensors)
    with attributes_restored(model) as before:
        tracer.before = before
        try:
            graph = tracer.trace(model)
        except StateError:
            raise
        except Exception:  # noqa: BLE001 - the model's own code, which symbolic tracing may not be able to follow
            return
        refuse_state(model, tracer, graph, before, buffers=False)


def _message(error: Exception, model: nn.Module) -> str:
    place = format_stack(traceback.extract_tb(error.__traceback__))
    return (
        f"{type(model).__name__} cannot be traced{place}: {type(error).__name__}: {str(error).removesuffix('.')}. "
        "Check that model(*example_inputs) runs; control flow on tensor values and conversions to numpy or Python "
        "numbers cannot be traced, use tensor operations instead"
    )
