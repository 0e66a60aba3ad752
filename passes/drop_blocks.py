"""Program and names of blocks -> the module without them: every block's sum is the value that enters it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import torch
from torch import fx

from atofx.errors import ConfigError
from atofx.ir.analysis import Analysis
from atofx.ir.blocks import Block
from atofx.ops.constants import memory_of
from atofx.passes.decisions import Readers
from atofx.passes.memory import is_written_after
from atofx.passes.stages import bounds_of


def named_blocks(blocks: Sequence[Block], names: Iterable[str]) -> tuple[Block, ...]:
    """The blocks of these names.

    Raises:
        ConfigError: there is none of a name; the message offers the nearest.
    """
    by_name = {block.name: block for block in blocks}
    for name in names:
        if name not in by_name:
            near = get_close_matches(name, by_name, n=1, cutoff=0.0)
            hint = f"the nearest is {near[0]!r}" if near else "the model has none"
            raise ConfigError(f"no block {name!r} can be left out; {hint} (program.blocks lists them, and why not)")
    return tuple(by_name[name] for name in names)


def drop_blocks(analysis: Analysis, blocks: Sequence[Block]) -> fx.GraphModule:
    """A copy of the traced module without some blocks: own parameters, the same qualified names.

    Args:
        analysis: the analysed model.
        blocks: of :func:`~atofx.passes.blocks.find_blocks`.
    """
    module = copy.deepcopy(analysis.module)
    now = dict(zip(analysis.blueprint.graph.nodes, module.graph.nodes, strict=True))
    readers = Readers(analysis.blueprint.graph)
    for check in readers.checks_of(node for block in blocks for node in block.region):
        module.graph.erase_node(now[check])
    for block in blocks:
        end = _repeated(analysis, block, readers) or block.add
        kept = now[block.skip]
        if memory_of(block.add) != memory_of(block.skip):
            memories = {memory_of(block.skip), memory_of(end)}  # one from now on
            if is_written_after(analysis, end, memories):
                with module.graph.inserting_after(now[end]):
                    kept = module.graph.call_function(torch.clone, (kept,))
        now[end].replace_all_uses_with(kept, delete_user_cb=lambda user, new=kept: user is not new)
        now[end] = kept
    _erase_dead(analysis, module)
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _erase_dead(analysis: Analysis, module: fx.GraphModule) -> None:
    """Erase what was read in the whole graph, but is read no more."""
    before = {node.name: node for node in analysis.blueprint.graph.nodes}
    for node in reversed(module.graph.nodes):
        source = before.get(node.name)
        if source is None or node.users or node.op in ("placeholder", "output") or not source.users:
            continue
        module.graph.erase_node(node)


def _repeated(analysis: Analysis, block: Block, readers: Readers) -> fx.Node | None:
    """The activation that alone reads the sum, where the value that enters has just gone through it: relu(relu(x))."""
    users = readers(block.add)
    bounds = bounds_of(analysis, users[0]) if len(users) == 1 else None
    return users[0] if bounds is not None and bounds_of(analysis, block.skip) == bounds else None
