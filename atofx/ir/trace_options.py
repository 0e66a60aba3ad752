"""What a model was traced with."""

from __future__ import annotations

from dataclasses import dataclass

from atofx.ir.granularity import HeadsOrDims


@dataclass(frozen=True)
class TraceOptions:
    """What :func:`atofx.trace` was asked for, and what was left out; readable as JSON, and gives the same groups again.

    Attributes:
        freeze: patterns of what keeps its shape.
        only: patterns of what may be pruned, None for everything.
        granularity: (pattern, choice) pairs.
        frontend: the front end that captured the graph.
        without: names of residual blocks, a tuple for each call of :meth:`Program.without_blocks`.
    """

    freeze: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    granularity: tuple[tuple[str, HeadsOrDims], ...] = ()
    frontend: str = "symbolic"
    without: tuple[tuple[str, ...], ...] = ()
