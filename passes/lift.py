"""A compact model's weights -> weights of the dense model that computes the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from atofx.ir.analysis import Analysis
from atofx.ops.resize import Keep


def lifted(own: torch.Tensor, kept: Keep, compact: torch.Tensor) -> torch.Tensor:
    """A dense tensor with a compact one's values at the kept coordinates, and its own elsewhere.

    Args:
        own: the dense tensor; it is left as it was.
        kept: per dimension, the kept indices, None for all.
        compact: of the kept sizes.
    """
    full = own.detach().clone()
    index = [torch.arange(size) if k is None else k for k, size in zip(kept, own.shape, strict=True)]
    grid = torch.meshgrid(*(i.to(own.device) for i in index), indexing="ij") if index else ()
    values = compact.detach().to(device=own.device, dtype=own.dtype)
    full[grid] = values
    return full


def silence_(analysis: Analysis, vectors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Set every producer coordinate of a dropped unit to zero, and what would read a constant of one, in place.

    Args:
        analysis: the analysed model.
        vectors: bool per prunable group (True = keep).
        state: dense tensors by name; names that are missing are left out.
    """
    for group in analysis.groups:
        vector = vectors.get(group.name)
        if vector is None:
            continue
        for member in group.members:
            if member.role == "producer" and member.name in state:
                dropped = (member.unit >= 0) & ~vector[member.unit.clamp(min=0)]
                tensor = state[member.name]
                tensor.index_fill_(member.dim, dropped.nonzero().flatten().to(tensor.device), 0)
    kept = analysis.kept_ids(dict(vectors))
    for fold in analysis.lineage.folds:
        name = analysis.lineage.tensor_names[f"{fold.node.target}.weight"]
        if name in state:
            columns = (~kept[fold.ids.clamp(min=0)] & (fold.ids >= 0)).nonzero().flatten()
            state[name].index_fill_(1, columns.to(state[name].device), 0)
