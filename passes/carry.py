"""One number a unit, from the groups of one program to those of another one of the same parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from atofx.ir.groups import Group


def carried(
    source: Sequence[Group], target: Sequence[Group], vectors: Mapping[str, Tensor], *, missing: bool | float
) -> dict[str, Tensor]:
    """Vectors over the units of ``target`` that say of every parameter's coordinates what ``vectors`` say.

    Args:
        source: groups that ``vectors`` are for.
        target: groups of a program with the same names of parameters, such as one without some blocks.
        vectors: one a group of ``source``.
        missing: value of units that no coordinate of ``source`` lies in.
    """
    known: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {}
    for group in source:
        for member in group.members:
            known.setdefault((member.name, member.dim), []).append((member.unit, vectors[group.name]))
    dtype = next((vector.dtype for vector in vectors.values()), torch.bool)
    result = {}
    for group in target:
        values = torch.full((group.size,), missing, dtype=dtype)
        for member in group.members:
            for unit, vector in known.get((member.name, member.dim), ()):
                shared = (unit >= 0) & (member.unit >= 0)
                values[member.unit[shared]] = vector.detach().cpu()[unit[shared]]
        result[group.name] = values
    return result
