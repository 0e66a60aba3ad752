"""Program and mask -> smaller GraphModule that computes the same function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from atofx.ir.analysis import Analysis
from atofx.ir.blueprint import Blueprint
from atofx.ir.values import holds
from atofx.nn.sizes import expect_sizes
from atofx.ops import REGISTRY
from atofx.ops.constants import is_written, memory_of
from atofx.ops.resize import Resizer
from atofx.passes.input_sizes import Sizes, sizes_needed


def compact(analysis: Analysis, vectors: Mapping[str, torch.Tensor], *, double: bool = False) -> fx.GraphModule:
    """The module without the dropped units: own parameters, same qualified names.

    Args:
        analysis: the analysed model.
        vectors: bool per prunable group (True = keep).
        double: everything in float64, also what is computed for biases.
    """
    with torch.no_grad():
        resizer = make_resizer(analysis, vectors)
        resizer.double = double
        return resized(analysis, resizer, sizes_needed(analysis, ~analysis.kept_ids(dict(vectors))))


def resized(analysis: Analysis, resizer: Resizer, fixed: Mapping[fx.Node, Sizes]) -> fx.GraphModule:
    """The module in which every coordinate stands as often as the resizer says.

    Args:
        analysis: the analysed model.
        resizer: a fresh one for it.
        fixed: placeholders that take some sizes only (:func:`~atofx.passes.input_sizes.sizes_needed`).
    """
    for node in analysis.blueprint.graph.nodes:
        new = _emit(resizer, node)
        if node in fixed:
            new = resizer.function(expect_sizes, new, fixed[node])
        resizer.record(node, new)
    _remove_dead_numbers(resizer.graph)
    source = analysis.blueprint
    transient = (source.transient & resizer.attributes.keys()) | set(resizer.index_names)
    module = Blueprint(resizer.graph, resizer.attributes, source.name, source.training, frozenset(transient)).module
    for name, original in analysis.module.named_modules():
        if name and _has_module(module, name):
            module.get_submodule(name).training = original.training
    return module


def make_resizer(analysis: Analysis, vectors: Mapping[str, torch.Tensor]) -> Resizer:
    """The resizer for a mask."""
    return Resizer(analysis.module, analysis.lineage, analysis.kept_ids(dict(vectors)), analysis.unit_numbers)


def _emit(resizer: Resizer, node: fx.Node) -> Any:
    if node.op == "placeholder":
        new = resizer.graph.placeholder(str(node.target), type_expr=node.type)
        new.meta = dict(node.meta)
        return new
    if node.op == "output":
        return resizer.graph.output(resizer.number(node.args[0]))
    if node.op == "get_attr":
        return _emit_attribute(resizer, node)
    if node.op == "call_module":
        return _no_alias(resizer, node, _emit_module(resizer, node))
    record = REGISTRY.of(node, None)
    if not _has_tensor(node):
        return resizer.call(node, resizer.forward(node.args), resizer.forward(dict(node.kwargs)))
    new = resizer.copy(node) if record is None or record.resize is None else record.resize(resizer, node)
    return _no_alias(resizer, node, new)


def _no_alias(resizer: Resizer, node: fx.Node, new: Any) -> Any:
    """A copy where the dense node makes one, its counterpart may be a view, and the memory is written to."""
    sources = node.all_input_nodes
    memory = memory_of(node)
    if memory is None or not isinstance(new, fx.Node) or memory in map(memory_of, sources):
        return new
    same = new.op == node.op and (new.op == "call_module" or new.target == node.target)
    if same and all(resizer.new(source) is not new for source in sources):
        return new
    return resizer.function(torch.clone, new) if any(map(is_written, (node, *sources))) else new


def _emit_attribute(resizer: Resizer, node: fx.Node) -> fx.Node:
    name = str(node.target)
    if isinstance(node.meta.get("val"), torch.Tensor):
        resizer.attributes.setdefault(name, resizer.tensor(name))
    else:
        resizer.attributes.setdefault(name, node.meta.get("val"))
    return resizer.call(node, ())


def _emit_module(resizer: Resizer, node: fx.Node) -> Any:
    name = str(node.target)
    source = resizer.source.get_submodule(name)
    spelling = REGISTRY.module(source)
    if spelling is not None and spelling.op.resize is not None and spelling.configure is None:
        return spelling.op.resize(resizer, node)
    if name in resizer.attributes and (spelling is None or spelling.configure is None):
        return resizer.copy(node)
    module = resizer.module(name)
    if spelling is not None and spelling.configure is not None:
        module = spelling.configure(module, resizer, node) or module
    name = _place(resizer, name, module)
    new = resizer.copy(node)
    new.target = name
    return new


def _place(resizer: Resizer, name: str, module: nn.Module) -> str:
    """Where a module lies in the compact one: a module whose calls came out different gets one more name each."""
    candidate, count = name, 1
    while candidate in resizer.attributes:
        if _settings(resizer.attributes[candidate]) == _settings(module):
            return candidate
        count += 1
        candidate = f"{name}_{count}"
    resizer.attributes[candidate] = module
    return candidate


def _settings(module: nn.Module) -> dict[str, Any]:
    """Sizes and other numbers; tensors are shared by name."""
    return {key: value for key, value in vars(module).items() if not key.startswith("_")}


def _has_tensor(node: fx.Node) -> bool:
    """Whether the result is a tensor or holds one; only then numbers among the arguments must stay what they were."""
    value = node.meta.get("val")
    return value is None or holds(value, torch.Tensor)


def _remove_dead_numbers(graph: fx.Graph) -> None:
    """Erase sizes and arithmetic on them that nobody reads any more."""
    for node in reversed(graph.nodes):
        if node.users or node.op not in ("call_function", "call_method", "get_attr"):
            continue
        if "val" in node.meta and not _has_tensor(node):
            graph.erase_node(node)


def _has_module(root: fx.GraphModule, name: str) -> bool:
    try:
        root.get_submodule(name)
    except AttributeError:
        return False
    return True
