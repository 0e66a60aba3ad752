"""Residual blocks of a graph that may be left out as a whole, and the stages they form."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True, eq=False)
class Block:
    """``add = skip + branch``, where nothing but ``skip`` decides ``branch``, and nobody else reads what leads to it.

    Attributes:
        name: the module that holds the branch, or the first layer of it; unique.
        add: the sum.
        skip: the value that enters the block and, without it, leaves it.
        branch: the other operand.
        region: every node between ``skip`` and ``add``, in graph order.
        parameters: qualified names of the parameters that the region reads.
    """

    name: str
    add: fx.Node
    skip: fx.Node
    branch: fx.Node
    region: tuple[fx.Node, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class RefusedBlock:
    """A sum that no block can be made of.

    Attributes:
        node: its name in the graph.
        reason: why.
    """

    node: str
    reason: str


@dataclass(frozen=True, eq=False)
class Stage:
    """Blocks in a row: each enters where the one before it ends.

    Attributes:
        name: what the names of its blocks have in common, or the first one's; unique.
        blocks: in the order of the graph.
        values: the value after 0, 1, … blocks, behind the activation that follows the sum, if it is one that changes
            nothing when it is applied again (ReLU).
        has_head: whether a residual block with a projection comes right before: a stage of ``n`` such blocks and it
            has depths 1 to n + 1, without it 1 to n.
    """

    name: str
    blocks: tuple[Block, ...]
    values: tuple[fx.Node, ...]
    has_head: bool

    @property
    def depths(self) -> tuple[int, ...]:
        """All depths the stage can have, the head counted as one."""
        return tuple(range(1, len(self.blocks) + int(self.has_head) + 1))

    def kept_blocks(self, depth: int) -> int:
        """How many of :attr:`blocks` a depth keeps; the last ones go first."""
        return depth - int(self.has_head)


@dataclass(frozen=True, eq=False)
class Blocks:
    """What :attr:`atofx.Program.blocks` found.

    Attributes:
        skippable: blocks that may be left out, in the order of the graph.
        refused: all other sums of two values of the graph, with reasons.
        stages: rows of skippable blocks that lie in no other one.
    """

    skippable: tuple[Block, ...]
    refused: tuple[RefusedBlock, ...]
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        can = [f"can be left out: {block.name}" for block in self.skippable]
        stages = [f"stage {s.name}: {', '.join(b.name for b in s.blocks)}; depths {s.depths}" for s in self.stages]
        cannot = [f"cannot: {block.node}: {block.reason}" for block in self.refused]
        return "\n".join([*can, *stages, *cannot]) or "no sum of two values in the graph"
