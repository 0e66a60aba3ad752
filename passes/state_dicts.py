"""Weights of the dense model and of a compact one: which became which, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atofx.ir.analysis import Analysis
from atofx.ops.resize import Keep
from atofx.passes.compact import make_resizer
from atofx.passes.trace import Traced


@dataclass(frozen=True, eq=False)
class KeptTensor:
    """Where a tensor of the big model went.

    Attributes:
        key: its name in the compact model's state dict, None if the graph does not use it.
        kept: per dimension, the kept indices (None: all).
    """

    key: str | None
    kept: tuple[Tensor | None, ...]


def state_dict_map(
    traced: Traced, analysis: Analysis, vectors: Mapping[str, Tensor], present: Collection[str]
) -> dict[str, KeptTensor]:
    """For every parameter and buffer of the user's model: its key in the compact model and the kept indices.

    Args:
        traced: the traced model.
        analysis: of it.
        vectors: bool per prunable group (True = keep).
        present: keys of the state dict of the traced module.
    """
    resizer = make_resizer(analysis, vectors)
    canonical = analysis.lineage.tensor_names
    by_tensor = {canonical[key]: key for key in present if key in canonical}
    result = {}
    for name, tensor in traced.tensors.items():
        key = name if name in present else by_tensor.get(canonical[name])
        result[name] = KeptTensor(key, resizer.kept_axes(name, tensor.dim()))
    return result


def dense_state_dict(
    traced: Traced,
    analysis: Analysis,
    vectors: Mapping[str, Tensor],
    places: Mapping[str, KeptTensor],
    compact: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Weights with which the user's model computes what a compact one computes.

    Args:
        traced: the traced model.
        analysis: of it.
        vectors: what the compact model keeps.
        places: what :func:`state_dict_map` gives for these vectors.
        compact: state dict of the compact model.

    Raises:
        KeyError: ``compact`` lacks a tensor.
    """
    canonical = analysis.lineage.tensor_names
    by_tensor: dict[str, Tensor] = {}  # a tied one is one, however many names it has
    state = {}
    for name, place in places.items():
        if name in traced.passing:
            continue
        own = traced.tensors[name]
        if place.key is not None and canonical[name] not in by_tensor:
            by_tensor[canonical[name]] = _lifted(own, place.kept, compact[place.key])
        if place.key is not None or isinstance(own, nn.Parameter) or name in traced.unused:
            state[name] = by_tensor[canonical[name]] if place.key is not None else own.detach().clone()
    _silence(analysis, vectors, state)
    return state


def _lifted(own: Tensor, kept: Keep, compact: Tensor) -> Tensor:
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


def _silence(analysis: Analysis, vectors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
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
