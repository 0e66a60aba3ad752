"""Skippable blocks -> stages: rows of blocks in which each enters where the one before it ends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import fx, nn
from torch.nn import functional

from atofx.ir.analysis import Analysis
from atofx.ir.blocks import Block, Stage
from atofx.ops.arguments import argument
from atofx.ops.constants import memory_of
from atofx.passes.base import common_prefix
from atofx.passes.decisions import Readers
from atofx.passes.memory import is_written_after

Bounds = tuple[float, float]
_RELU = frozenset({functional.relu, torch.relu, torch.relu_, torch.ops.aten.relu.default, torch.ops.aten.relu_.default})


def form_stages(
    analysis: Analysis, blocks: Sequence[Block], sums: Iterable[fx.Node], readers: Readers
) -> tuple[Stage, ...]:
    """The stages of the blocks that lie in no other one.

    Args:
        analysis: the analysed model.
        blocks: all skippable ones, in the order of the graph.
        sums: all sums of two tensors that depend on the input.
        readers: who reads a value.
    """
    inner = {node for block in blocks for node in block.region}
    outer = [block for block in blocks if block.add not in inner and memory_of(block.add) != memory_of(block.skip)]
    rows: list[list[Block]] = []
    for block in outer:
        if rows and _follows(analysis, rows[-1][-1], block, readers):
            rows[-1].append(block)
        else:
            rows.append([block])
    skippable = {block.add for block in blocks}
    heads = {node for node in sums if node not in skippable}
    return tuple(_named([_stage(analysis, row, heads, readers) for row in rows]))


def bounds_of(analysis: Analysis, node: fx.Node) -> Bounds | None:
    """The bounds that an operation holds its one input to, None for other operations.

    Such an activation (ReLU, ReLU6, hard tanh) changes nothing when it is applied again.
    """
    if node.op == "call_module":
        module = analysis.blueprint.attributes.get(str(node.target))
        if isinstance(module, nn.Hardtanh):
            return float(module.min_val), float(module.max_val)
        return (0.0, math.inf) if isinstance(module, nn.ReLU) else None
    if node.op == "call_method":
        return (0.0, math.inf) if node.target in ("relu", "relu_") else None
    if node.op != "call_function":
        return None
    if node.target in _RELU:
        return 0.0, math.inf
    if node.target is functional.relu6:
        return 0.0, 6.0
    if node.target is functional.hardtanh:
        low, high = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
        return (float(low), float(high)) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None
    return None


def _end(analysis: Analysis, block: Block, readers: Readers) -> fx.Node:
    """The value after a block: its sum, or the bounding activation that alone reads it."""
    users = readers(block.add)
    return users[0] if len(users) == 1 and bounds_of(analysis, users[0]) else block.add


def _follows(analysis: Analysis, before: Block, block: Block, readers: Readers) -> bool:
    """Whether a block enters where another one ends, behind the same kind of activation, and nobody else reads that."""
    end = _end(analysis, before, readers)
    mine = {*block.region, block.add}
    same = bounds_of(analysis, end) == bounds_of(analysis, _end(analysis, block, readers))
    return block.skip is end and same and all(user in mine for user in readers(end))


def _stage(analysis: Analysis, row: list[Block], heads: set[fx.Node], readers: Readers) -> Stage:
    entry, bounds = row[0].skip, bounds_of(analysis, _end(analysis, row[0], readers))
    is_bounded = bounds is not None and bounds_of(analysis, entry) == bounds
    head = entry.all_input_nodes[0] if is_bounded else entry
    is_stable = not is_written_after(analysis, entry, {memory_of(entry)})
    has_head = head in heads and (bounds is None or is_bounded) and is_stable
    values = (entry, *(_end(analysis, block, readers) for block in row))
    return Stage(common_prefix([block.name for block in row]), tuple(row), values, has_head)


def _named(stages: list[Stage]) -> Iterable[Stage]:
    shared = Counter(stage.name for stage in stages)
    for stage in stages:
        unique = stage.name and shared[stage.name] == 1
        yield Stage(stage.name if unique else stage.blocks[0].name, stage.blocks, stage.values, stage.has_head)
