"""Model and example inputs -> the graph torch.export records, ready to be replayed on the tracer's proxies."""

from __future__ import annotations

import functools
import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sympy
import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import InputKind
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from atofx.errors import TraceError
from atofx.ir.values import holds
from atofx.ops import COMPOSITES
from atofx.passes.altered import altered_noted
from atofx.passes.export_decisions import SizeDecision, decisions_noted
from atofx.passes.place import format_stack
from atofx.passes.restore import attributes_restored

#: Which dimensions of every input may differ from the example's, tried in this order before none is; a model that uses
#: a size as a number fixes it.
Free = Literal["every dimension", "the first dimension"]


@dataclass(frozen=True, eq=False)
class Exported:
    """What torch.export records of one call.

    Attributes:
        program: the graph.
        decisions: what was decided by the inputs' free sizes, each once, in turn.
        altered: the modules that were called through forward hooks, or set otherwise than before.
    """

    program: ExportedProgram
    decisions: tuple[SizeDecision, ...]
    altered: frozenset[nn.Module]

    def holds(self, inputs: list[Any]) -> bool:
        """Whether all is decided alike for other inputs."""
        values = dict(zip(inputs_of(self.program), inputs, strict=True))
        sizes = {symbol: values[node].shape[dim] for symbol, (node, dim) in free_sizes(self.program).items()}
        return all(decision.holds(sizes) for decision in self.decisions)


def inputs_of(program: ExportedProgram) -> list[fx.Node]:
    """The placeholders of the inputs, in the order of their leaves."""
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    kinds = [spec.kind for spec in program.graph_signature.input_specs]
    return [n for n, kind in zip(placeholders, kinds, strict=True) if kind is InputKind.USER_INPUT]


def free_sizes(program: ExportedProgram) -> dict[sympy.Symbol, tuple[fx.Node, int]]:
    """The symbols of the inputs' free sizes, with the first input and dimension that has each."""
    found: dict[sympy.Symbol, tuple[fx.Node, int]] = {}
    for node in inputs_of(program):
        for dim, size in enumerate(getattr(node.meta.get("val"), "shape", ())):
            if isinstance(size, torch.SymInt) and isinstance(size.node.expr, sympy.Symbol):
                found.setdefault(size.node.expr, (node, dim))
    return found


def export_graph(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, training: bool | None = None
) -> Exported:
    """What torch.export records of one call, before any decomposition.

    Args:
        model: any module; nothing is left behind in it.
        args: positional example inputs.
        kwargs: keyword example inputs.
        training: the mode of all modules that have the model's own; None for the present one.

    Raises:
        TraceError: torch.export cannot record the call; names the user's file and line where they are known.
    """
    try:
        with _opened(model, training), _quiet():
            return _export_freely(model, args, kwargs)
    except Exception as error:  # the user's own forward may raise anything
        raise TraceError(_message(error, model)) from error


def _export_freely(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exported:
    """With as many free dimensions as the model allows.

    torch.export takes a size of 1 for a constant. A batch of one is therefore exported as a batch of two, which counts
    if the model makes the very same calls for one, and decides nothing otherwise.
    """
    single = _is_single(args, kwargs)
    example = pytree.tree_map_only(torch.Tensor, _doubled, (args, kwargs)) if single else (args, kwargs)
    fixed = _export(model, args, kwargs, None) if single else None
    for free in get_args(Free):
        try:
            exported = _export(model, example[0], example[1], free)
        except Exception:  # noqa: BLE001 - fewer dimensions may be possible; the last attempt tells the reason
            continue
        if fixed is None or (
            _batch_is_free(exported)
            and _calls(exported) == _calls(fixed)
            and exported.holds(pytree.tree_leaves((args, kwargs)))
        ):
            return exported
    return _export(model, args, kwargs, None) if fixed is None else fixed


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], free: Free | None) -> Exported:
    shapes = ShapesCollection()
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor) and leaf.dim() and free is not None:
            shapes[leaf] = [Dim.AUTO if d == 0 or free == "every dimension" else Dim.STATIC for d in range(leaf.dim())]
    # torch.export of releases before 2.7 decomposes; its predecessor of the same meaning does not
    export = getattr(torch.export, "export_for_training", torch.export.export)
    with decisions_noted() as noted, altered_noted(model) as altered:
        program = export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
    return Exported(program, noted.settled(program, free_sizes(program)), frozenset(altered))


def _is_single(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the first dimension of every tensor is 1."""
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    return bool(tensors) and all(t.dim() > 0 and t.shape[0] == 1 for t in tensors)


def _doubled(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().repeat(2, *[1] * (tensor.dim() - 1)).requires_grad_(tensor.requires_grad)


def _batch_is_free(exported: Exported) -> bool:
    values = [n.meta.get("val") for n in inputs_of(exported.program)]
    return not any(is_concrete_int(v.shape[0]) for v in values if isinstance(v, torch.Tensor))


def _calls(exported: Exported) -> list[str]:
    """The operations on tensors, in order, without those that give back what they get."""
    calls = [n for n in exported.program.graph.nodes if n.op == "call_function"]
    return [str(n.target) for n in calls if holds(n.meta.get("val"), torch.Tensor) and not _gives_back(n)]


def _gives_back(node: fx.Node) -> bool:
    """Whether a slice or the like takes the whole: torch.export leaves that out where it knows the size.

    An expansion to a batch of one is one of them.
    """
    name = str(node.target).split(".")[1:2]
    if name == ["expand"]:
        return True
    if name not in (["slice"], ["alias"], ["contiguous"], ["reshape"]):
        return False
    source, value = node.all_input_nodes[0].meta.get("val"), node.meta["val"]
    return isinstance(source, torch.Tensor) and source.shape == value.shape


@contextmanager
def _opened(model: nn.Module, training: bool | None) -> Iterator[None]:
    """A model with composite modules opened up and in a mode, and afterwards as it was.

    It is no copy: what hooks, closures and other objects hold of the model would not be that of a copy.
    """
    with attributes_restored(model):
        for module in model.modules():
            composite = COMPOSITES.module(module)
            if composite is not None:
                vars(module)["forward"] = functools.partial(composite, module)
        if training is not None:
            for module in [m for m in model.modules() if m.training == model.training]:
                module.training = training
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch.export's warnings and log lines, and without fused encoder layers, whose insides cannot be seen."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export", "torch.fx.experimental")]
    levels = [logger.level for logger in loggers]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        torch.backends.mha.set_fastpath_enabled(False)
        # the graph of a failed attempt is printed
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _message(error: Exception, model: nn.Module) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = format_stack(traceback.extract_tb(error.__traceback__))
    return (
        f"torch.export cannot record {type(model).__name__}{place}: {type(error).__name__}: "
        f"{lines[0] if lines else 'no message'}"
    )
