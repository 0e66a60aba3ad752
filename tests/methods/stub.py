"""A program of plain tensors: for formulas worked out by hand, with no network around them."""

from collections.abc import Mapping
from itertools import pairwise

import torch

from atofx.ir.groups import Group, Member
from atofx.ir.mask import Mask
from atofx.ir.meta import require_values


class StubProgram:
    """Groups over given tensors; FLOPs are a product of kept counts along a chain ``3 -> g0 -> g1 -> ... -> 10``."""

    def __init__(self, groups, tensors=None):
        self.groups = self.prunable = tuple(groups)
        self._tensors = tensors or {}

    def tensor(self, name):
        return self._tensors[name]

    def require_values(self, purpose):
        require_values(self._tensors, purpose)

    def full_mask(self):
        return Mask({group.name: torch.ones(group.size, dtype=torch.bool) for group in self.prunable})

    def flops(self, mask: Mapping[str, torch.Tensor] | None = None):
        mask = self.full_mask() if mask is None else mask
        widths = [3, *(mask[group.name].double().sum() for group in self.groups), 10]
        total = sum(a * b for a, b in pairwise(widths))
        return int(total) if isinstance(mask, Mask) else total

    def flops_by_counts(self, counts):
        widths = [torch.full((len(counts),), 3), *counts.unbind(1), torch.full((len(counts),), 10)]
        return sum(a * b for a, b in pairwise(widths))


def chain(*sizes):
    """Groups ``g0, g1, ...`` of these sizes without any tensors."""
    return StubProgram([Group(f"g{i}", size, True, None, ()) for i, size in enumerate(sizes)])


def producer(name, unit, dim=0):
    return Member(name, dim, "producer", torch.as_tensor(unit))


def consumer(name, unit, dim=0):
    return Member(name, dim, "consumer", torch.as_tensor(unit))
