"""Analysis -> residual blocks ``x + f(x)`` that can be left out as a whole, found in the graph.

Leaving one out replaces the sum by ``x``. That is offered only where it is certain to give the network with the branch
at zero: the sum has the shape of ``x``, nothing else reads what the branch computes, it writes into no memory but its
own, and it reads no other value that depends on the input.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import fx

from atofx.ir.analysis import Analysis
from atofx.ir.blocks import Block, Blocks, RefusedBlock
from atofx.ir.values import holds
from atofx.ops.constants import memory_of
from atofx.passes.base import common_prefix, owner
from atofx.passes.decisions import Readers
from atofx.passes.memory import written_by
from atofx.passes.stages import form_stages

_SUMS = frozenset({operator.add, operator.iadd, torch.add, torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor})
_SUM_METHODS = frozenset({"add", "add_", "__add__", "__iadd__"})


class _RefusedError(Exception):
    """Why a sum is no block."""


def find_blocks(analysis: Analysis) -> Blocks:
    """All sums of two tensors that depend on the input: skippable blocks, and reasons for the others."""
    order = {node: position for position, node in enumerate(analysis.blueprint.graph.nodes)}
    variable, readers = _variable(order), Readers(analysis.blueprint.graph)
    found: list[Block] = []
    refused: list[RefusedBlock] = []
    sums = {node: operands for node in order if len(operands := _operands(node)) == 2 and variable >= {*operands}}
    for node, operands in sums.items():
        try:
            found.append(_block(analysis, node, operands, order, variable, readers))
        except _RefusedError as error:
            refused.append(RefusedBlock(node.name, str(error)))
    blocks = tuple(_named(analysis, found))
    return Blocks(blocks, tuple(refused), form_stages(analysis, blocks, sums, readers))


def _operands(node: fx.Node) -> tuple[fx.Node, ...]:
    """The tensors that a node adds up; none for other nodes."""
    is_sum = node.target in (_SUM_METHODS if node.op == "call_method" else _SUMS if node.op == "call_function" else ())
    if not is_sum or not _is_tensor(node) or node.kwargs.get("alpha", 1) != 1 or len(node.args) > 2:
        return ()
    given = (*node.args, *(node.kwargs[key] for key in ("input", "other") if key in node.kwargs))
    return tuple(value for value in given if isinstance(value, fx.Node) and _is_tensor(value))


def _variable(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Tensors whose values depend on the model's input; a tensor that only takes a size from it does not."""
    found: set[fx.Node] = set()
    for node in nodes:
        depends = node.op == "placeholder" or any(source in found for source in node.all_input_nodes)
        if depends and holds(node.meta.get("val"), torch.Tensor):
            found.add(node)
    return found


def _block(
    analysis: Analysis,
    add: fx.Node,
    operands: tuple[fx.Node, ...],
    order: dict[fx.Node, int],
    variable: set[fx.Node],
    readers: Readers,
) -> Block:
    """The block of a sum.

    Raises:
        _RefusedError: there is none.
    """
    first, second = operands
    if first is second:
        raise _RefusedError("a value is added to itself")
    for skip, branch in ((_behind_identities(analysis, first), second), (_behind_identities(analysis, second), first)):
        region = _between(skip, branch, add, order)
        if branch in region:
            _check(analysis, add, skip, region, variable, readers)
            ordered = tuple(sorted(region, key=order.__getitem__))
            return Block("", add, skip, branch, ordered, tuple(_parameters(analysis, ordered)))
    raise _RefusedError("neither of the two values it adds is computed from the other: the skip is not an identity")


def _behind_identities(analysis: Analysis, node: fx.Node) -> fx.Node:
    """The value itself, not what an identity module hands on."""
    while node.op == "call_module" and _is_identity(analysis, node) and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node


def _is_identity(analysis: Analysis, node: fx.Node) -> bool:
    return isinstance(analysis.blueprint.attributes.get(str(node.target)), torch.nn.Identity)


def _between(skip: fx.Node, branch: fx.Node, add: fx.Node, order: dict[fx.Node, int]) -> set[fx.Node]:
    """Every node that is computed from ``skip`` and leads to ``add``."""
    after: set[fx.Node] = set()
    todo = [skip]
    while todo:
        for user in todo.pop().users:
            if user is not add and user not in after:
                after.add(user)
                todo.append(user)
    if branch not in after:
        return set()
    before: set[fx.Node] = set()
    todo = [add]
    while todo:
        for source in todo.pop().all_input_nodes:
            if source in after and source not in before:
                before.add(source)
                todo.append(source)
    for node in sorted(before, key=order.__getitem__):  # sizes of what enters may be read by others too
        if not _is_tensor(node) and not any(source in before for source in node.all_input_nodes):
            before.discard(node)
    return before


def _check(
    analysis: Analysis,
    add: fx.Node,
    skip: fx.Node,
    region: set[fx.Node],
    variable: set[fx.Node],
    readers: Readers,
) -> None:
    """Make sure that the sum may be replaced by ``skip``.

    Raises:
        _RefusedError: it may not.
    """
    mine, whole = skip.meta["val"], add.meta["val"]
    if mine.shape != whole.shape or mine.dtype != whole.dtype:
        raise _RefusedError(f"the sum is {_kind(whole)}, the value that enters {_kind(mine)}")
    inside = {*region, add}
    for node in region:
        for user in readers(node):
            if user not in inside:
                raise _RefusedError(f"{node.name}, computed in the branch, is read by {user.name} outside of it")
        for source in node.all_input_nodes:
            if source in variable and source is not skip and source not in region:
                raise _RefusedError(f"the branch also reads {source.name}, which is not computed from {skip.name}")
    own = {memory_of(node) for node in region} - {memory_of(skip), None}
    for node in region:
        written = written_by(analysis, node)
        if written is not None and memory_of(written) not in own:
            raise _RefusedError(f"the branch changes {written.name}, a value from outside, in place ({node.name})")


def _parameters(analysis: Analysis, region: Iterable[fx.Node]) -> Iterable[str]:
    """Names of the parameters that nodes read."""
    for node in region:
        module = analysis.blueprint.attributes.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, torch.nn.Module):
            yield from (f"{node.target}.{name}" for name, _ in module.named_parameters())
        read = (source for source in node.all_input_nodes if source.op == "get_attr")
        for name in (str(source.target) for source in read):
            if isinstance(analysis.blueprint.attributes.get(name), torch.nn.Parameter):
                yield name


def _named(analysis: Analysis, blocks: list[Block]) -> Iterable[Block]:
    """The blocks under the module that holds the branch; where that is not unique, under its first layer."""
    wide = [_common(analysis, block) for block in blocks]
    narrow = [next((str(n.target) for n in block.region if n.op == "call_module"), "") for block in blocks]
    for i, block in enumerate(blocks):
        choices = [name for names in (wide, narrow) if (name := names[i]) and Counter(names)[name] == 1]
        name = choices[0] if choices else block.add.name
        yield replace(block, name=name)


def _common(analysis: Analysis, block: Block) -> str:
    places = [
        str(node.target) if node.op == "call_module" else owner(node)
        for node in block.region
        if not (node.op == "call_module" and _is_identity(analysis, node))
    ]
    return common_prefix([place for place in places if place])


def _kind(value: torch.Tensor) -> str:
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)
