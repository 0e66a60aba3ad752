"""For which inputs a mask holds: of every size, or of the example's only."""

from __future__ import annotations

import torch
from torch import fx

from atofx.ir.analysis import Analysis
from atofx.ir.values import TensorValue

Sizes = tuple[int | None, ...]


def sizes_needed(analysis: Analysis, changed: torch.Tensor) -> dict[fx.Node, Sizes]:
    """The sizes that inputs must have where units are changed without which other sizes give something else.

    Args:
        analysis: the analysed model.
        changed: bool per id: dropped, or repeated.

    Returns:
        Placeholder -> its sizes, None for any; empty if inputs may have any sizes.
    """
    lineage = analysis.lineage
    if not bool((changed & lineage.sized).any()):
        return {}
    return input_sizes(analysis, batched=bool((changed & lineage.batched).any()))


def input_sizes(analysis: Analysis, *, batched: bool) -> dict[fx.Node, Sizes]:
    """The sizes of the example, without that of the batch (the first) unless ``batched``."""
    found: dict[fx.Node, Sizes] = {}
    for node in analysis.blueprint.graph.nodes:
        value = analysis.lineage.values.get(node)
        if node.op == "placeholder" and isinstance(value, TensorValue) and value.ndim:
            found[node] = (value.shape[0] if batched else None, *value.shape[1:])
    return found


def sized_groups(analysis: Analysis) -> tuple[str, ...]:
    """The prunable groups without some units of which inputs must have the example's sizes."""
    return _prunable_groups(analysis, analysis.lineage.sized)


def sizes_of_masked(analysis: Analysis) -> dict[fx.Node, Sizes]:
    """The sizes that inputs must have where any mask may be set; empty if inputs may have any sizes."""
    if not sized_groups(analysis):
        return {}
    return input_sizes(analysis, batched=bool(_prunable_groups(analysis, analysis.lineage.batched)))


def _prunable_groups(analysis: Analysis, ids: torch.Tensor) -> tuple[str, ...]:
    """The prunable groups that some of these ids belong to."""
    indices = torch.unique(analysis.group_of[ids]).tolist()
    return tuple(analysis.groups[i].name for i in indices if i >= 0 and analysis.groups[i].prunable)
