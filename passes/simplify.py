"""Spellings that hide what they compute, replaced by the operation they stand for."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from atofx.nn.functional import mean_square_deviation
from atofx.ops.arguments import argument, argument_node, target_name
from atofx.ops.inplace import mutated_argument

_CALLS = ("call_function", "call_method")
_DIFFERENCES = ("sub", "subtract")
_PRODUCTS = ("mul", "multiply")
_POWERS = ("pow", "square")


def name_deviations(graph: fx.Graph, leaves: Mapping[str, nn.Module]) -> None:
    """The mean of squared differences from the mean over the same dimensions becomes one function.

    Layer norms written out in plain operations are full of them. The difference is not zero where a channel was
    dropped, so its mean would pin all channels; the function knows how many there were. Where memory is changed in
    place the values a node names may be later ones: left as it is.

    Args:
        graph: changed in place.
        leaves: the modules it calls.
    """
    candidates = [node for node in graph.nodes if node.op in _CALLS and _deviation(node) is not None]
    if not candidates:
        return
    changed = _changed_memory(graph, leaves)
    for node in candidates:
        found = _deviation(node)
        if found is None or any(_memory(n) in changed for n in (node, *_inside(node, found[0]))):
            continue
        source, dims, keepdim = found
        with graph.inserting_before(node):
            deviation = graph.call_function(mean_square_deviation, (source, dims), {"keepdim": keepdim})
        deviation.meta = dict(node.meta)
        node.replace_all_uses_with(deviation)
        graph.erase_node(node)
    _erase_unread(graph)


def _deviation(node: fx.Node) -> tuple[fx.Node, list[int], bool] | None:
    """(x, dimensions, keepdim) of ``mean((x - mean(x, keepdim=True)) ** 2)``."""
    outer = _mean(node)
    if outer is None:
        return None
    squared, dims, keepdim = outer
    difference = _root(squared)
    if difference is None or not _calls(difference, _DIFFERENCES) or difference.kwargs.get("alpha", 1) != 1:
        return None
    source, centre = argument_node(difference, 0, "input"), argument_node(difference, 1, "other")
    inner = None if centre is None else _mean(centre)
    if source is None or inner != (source, dims, True):
        return None
    return source, dims, keepdim


def _inside(node: fx.Node, source: fx.Node) -> set[fx.Node]:
    """The nodes between ``source`` and ``node``, with both."""
    found = {source}
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes)
    return found


def _changed_memory(graph: fx.Graph, leaves: Mapping[str, nn.Module]) -> set[int]:
    """The memory that calls change in place."""
    targets = (mutated_argument(n, leaves.get(str(n.target)) if n.op == "call_module" else None) for n in graph.nodes)
    return {_memory(target) for target in targets if target is not None}


def _memory(node: fx.Node) -> int:
    """Which memory a node's value lies in; views share it."""
    value = node.meta.get("val")
    return int(value.untyped_storage()._cdata) if isinstance(value, torch.Tensor) else 0


def _mean(node: fx.Node) -> tuple[fx.Node, list[int], bool] | None:
    """(x, dimensions counted from 0, keepdim) of a mean over named dimensions."""
    if not _calls(node, ("mean",)) or argument(node, 3, "dtype") is not None:
        return None
    source = argument_node(node, 0, "input")
    if source is None:
        return None
    dim: Any = argument(node, 1, "dim", node.kwargs.get("axis"))
    dims = [dim] if isinstance(dim, int) else dim
    value = source.meta.get("val")
    if not isinstance(value, torch.Tensor) or not isinstance(dims, (tuple, list)) or not dims:
        return None
    if not all(isinstance(d, int) for d in dims):
        return None
    return source, sorted(d % value.dim() for d in dims), argument(node, 2, "keepdim", False) is True


def _root(node: fx.Node) -> fx.Node | None:
    """What a node squares."""
    base = argument_node(node, 0, "input")
    if _calls(node, _POWERS):
        return base if target_name(node) == "square" or argument(node, 1, "exponent") == 2 else None
    return base if _calls(node, _PRODUCTS) and argument_node(node, 1, "other") is base else None


def _calls(node: fx.Node, names: tuple[str, ...]) -> bool:
    """Whether a node calls torch's function, Python's operator or the method of one of these names."""
    if node.op == "call_method":
        return node.target in names
    if node.op != "call_function" or target_name(node) not in names:
        return False
    name = target_name(node)
    return node.target in (getattr(torch, name, None), getattr(operator, name, None))


def _erase_unread(graph: fx.Graph) -> None:
    """Erase the squares and differences that nobody reads any more."""
    for node in reversed(graph.nodes):
        if not node.users and (_root(node) is not None or _calls(node, _DIFFERENCES)):
            graph.erase_node(node)
