"""Program and mask -> dense module whose dropped units' producers are zero."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import fx

from atofx.ir.analysis import Analysis
from atofx.passes.base import attribute


def zeroed(analysis: Analysis, vectors: Mapping[str, torch.Tensor]) -> fx.GraphModule:
    """A copy of the traced module with every producer coordinate of a dropped unit at zero.

    A channel is zeroed *after* its bias and norm: weights, biases and norm parameters of the unit are all producers.
    """
    module = copy.deepcopy(analysis.module)
    with torch.no_grad():
        for group in analysis.groups:
            vector = vectors.get(group.name)
            if vector is None:
                continue
            for member in group.members:
                if member.role != "producer":
                    continue
                dropped = (member.unit >= 0) & ~vector[member.unit.clamp(min=0)]
                tensor = attribute(module, member.name)
                tensor.index_fill_(member.dim, dropped.nonzero().flatten().to(tensor.device), 0)
    return module
