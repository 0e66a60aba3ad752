"""Which units of a model are zero already: what a group-sparse training left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from atofx.ir.groups import Group
from atofx.ir.mask import Mask


def zero_mask(groups: Iterable[Group], tensors: Mapping[str, torch.Tensor]) -> Mask:
    """The mask that drops every unit all of whose producers are exactly zero; a group keeps one unit at least.

    Args:
        groups: the prunable groups.
        tensors: parameters and buffers by name.
    """
    return Mask({group.name: _keep(group, tensors) for group in groups})


def _keep(group: Group, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    produced, alive = torch.zeros(group.size, dtype=torch.bool), torch.zeros(group.size, dtype=torch.bool)
    for member in group.members:
        if member.role != "producer":
            continue
        tensor, unit = tensors[member.name].detach(), member.unit.cpu()
        others = [dim for dim in range(tensor.dim()) if dim != member.dim]
        filled = ((tensor != 0).sum(others) if others else tensor != 0).cpu() > 0
        produced[unit[unit >= 0]] = True
        alive[unit[(unit >= 0) & filled]] = True
    keep = alive | ~produced
    if not bool(keep.any()):
        keep[0] = True
    return keep
