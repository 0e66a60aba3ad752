"""Whether a traced region does what its module does, and whether one graph will do for calls of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from atofx.ir.analysis import Analysis
from atofx.ir.copies import deepcopy
from atofx.passes.base import attribute
from atofx.passes.compact import compact
from atofx.passes.group import form_groups
from atofx.passes.inputs import ExampleInputs
from atofx.passes.lineage import trace_lineage
from atofx.passes.merge import merge, original_name, unused_by
from atofx.passes.outer import part_of
from atofx.passes.plan import Call, Plan, form
from atofx.passes.record import call, copied, random_state_kept
from atofx.passes.trace import Traced
from atofx.passes.verify import TOLERANCE, double_copy, in_float64, largest_error


def same_graph(a: Traced, b: Traced) -> bool:
    """Whether two graphs of one module are the same code with the same constants."""
    if a.module.code != b.module.code:
        return False
    own, other = dict(a.module.named_buffers()), dict(b.module.named_buffers())
    return own.keys() == other.keys() and all(t is other[n] or torch.equal(t, other[n]) for n, t in own.items())


def compact_alike(model: nn.Module, region: str, parts: Sequence[Traced]) -> bool:
    """Whether the compact graphs of several calls are the same too: numbers that are resized may tell sizes apart.

    Args:
        model: the user's model.
        region: name of the submodule.
        parts: its graphs.
    """
    if len(parts) == 1:
        return True
    plan = Plan("", tuple(Call(region, p.inputs, 1) for p in parts), dict.fromkeys(unused_by(model, parts), ""))
    traced = merge(model, (), plan, parts)
    lineage = trace_lineage(traced)
    grouping = form_groups(lineage)
    analysis = Analysis(traced.blueprint, lineage, grouping.groups, grouping.group_of, grouping.unit_of)
    small = compact(analysis, {g.name: torch.arange(g.size) % 2 == 0 for g in grouping.groups if g.prunable})
    first, *others = (_spelled(small, index) for index in range(len(parts)))
    return all(first == other for other in others)


def _spelled(module: fx.GraphModule, index: int) -> list[Any]:
    """The nodes of one call, free of the names that differ from call to call."""
    graph = part_of(module, index)
    place = {node: i for i, node in enumerate(graph.nodes)}
    return [
        (n.op, _target(module, n, index), repr(fx.node.map_arg((n.args, dict(n.kwargs)), lambda m: f"%{place[m]}")))
        for n in graph.nodes
    ]


def _target(module: fx.GraphModule, node: fx.Node, index: int) -> Any:
    if node.op == "placeholder":
        return original_name(index, str(node.target))
    if node.op == "get_attr":
        value = attribute(module, str(node.target))
        if isinstance(value, torch.Tensor) and "." not in str(node.target):  # an index, named after its node
            return value.tolist()
    return node.target


def computes_the_same(graph: fx.GraphModule, module: nn.Module, inputs: ExampleInputs, expected: Any) -> bool:
    """Whether a graph does what the module does, in eval mode and in train mode: to the bit, or else in float64."""
    with torch.no_grad(), random_state_kept():
        try:
            return _same_in_eval(graph, module, inputs, expected) and _same_in_train(graph, module, inputs)
        except Exception:  # noqa: BLE001 - the user's own code on inputs it was not traced with
            return False


def _same_in_eval(graph: fx.GraphModule, module: nn.Module, inputs: ExampleInputs, expected: Any) -> bool:
    """Equal, if only in float64: an opened module rounds in another order than torch's own kernel."""
    if _error(call(deepcopy(graph).eval(), copied(inputs)), expected) == 0.0:
        return True
    wide = call(_wide(module).eval(), in_float64(inputs))
    return _error(call(double_copy(graph), in_float64(inputs)), wide) <= TOLERANCE


def _same_in_train(graph: fx.GraphModule, module: nn.Module, inputs: ExampleInputs) -> bool:
    """Equal, if only in float64; where results are random, of the same form."""
    try:
        expected = _in_train(deepcopy(module), copied(inputs))
    except Exception:  # noqa: BLE001 - it need not run in train mode on such inputs
        return True
    if _error(_in_train(deepcopy(graph), copied(inputs)), expected) == 0.0:
        return True
    try:
        wide = _in_train(_wide(module), in_float64(inputs))
    except Exception:  # noqa: BLE001 - nor in float64
        return True
    actual = _in_train(double_copy(graph), in_float64(inputs))
    if form(actual, sizes=True) != form(wide, sizes=True):
        return False
    return _error(actual, wide) <= TOLERANCE or _error(_in_train(_wide(module), in_float64(inputs), seed=1), wide) > 0


def _in_train(module: nn.Module, inputs: ExampleInputs, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return call(module.train(), inputs)


def _wide(module: nn.Module) -> nn.Module:
    return deepcopy(module).cpu().double()


def _error(a: Any, b: Any) -> float:
    try:
        return largest_error(a, b)
    except ValueError:
        return float("inf")
