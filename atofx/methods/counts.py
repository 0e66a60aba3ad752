"""How many units each group keeps: allowed numbers whose cost meets a target, changed as little as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch

_EXHAUSTIVE = 100_000  # combinations: up to here all of them are looked at
_MOVES = 400  # changes of one group that are combined in pairs
_SHORTLIST = 1_000  # pairs that are priced exactly, of one state
_BEAM = 8  # states
_PATIENCE = 3  # rounds without a nearer state


@dataclass(frozen=True, eq=False)
class CountProblem:
    """Choose one allowed count per group so that the price comes within ``slack`` of ``wanted``.

    Attributes:
        allowed: per group, the allowed numbers of units, int64, rising.
        price: counts (candidates, groups) -> int64 (candidates,); rises with every count.
        wanted: the target, in the unit of the price.
        slack: a miss up to this is none.
    """

    allowed: tuple[torch.Tensor, ...]
    price: Callable[[torch.Tensor], torch.Tensor]
    wanted: float
    slack: float

    def miss(self, counts: torch.Tensor) -> torch.Tensor:
        """Distance of each candidate's price from the target, float64."""
        return (self.price(counts).double() - self.wanted).abs()

    def excess(self, counts: torch.Tensor) -> torch.Tensor:
        """The part of the miss beyond the slack."""
        return (self.miss(counts) - self.slack).clamp(min=0)

    def sorted(self, candidates: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Nearest to the target first; of equally near ones, those with the fewest units changed from ``start``."""
        change = (candidates - start).abs().sum(1)
        order = change.argsort(stable=True)
        return candidates[order[self.excess(candidates[order]).argsort(stable=True)]]


def meet_target(problem: CountProblem, starts: torch.Tensor) -> torch.Tensor:
    """Counts that meet the target, near to the first start; where none are found, the nearest ones.

    With few combinations all are looked at, so a target that can be met is met. With more, a beam search changes the
    counts of one or two groups at a time as long as that helps.

    Args:
        problem: what is allowed and wanted.
        starts: (starts, groups), allowed counts to set out from.
    """
    if prod(len(allowed) for allowed in problem.allowed) <= _EXHAUSTIVE:
        candidates = torch.cartesian_prod(*problem.allowed).reshape(-1, len(problem.allowed))
        return problem.sorted(candidates, starts[0])[0]
    beam = problem.sorted(starts, starts[0])
    left = _PATIENCE
    while left:
        found = torch.cat([beam, *(_pairs(problem, counts) for counts in beam)]).unique(dim=0)
        before = float(problem.excess(beam[:1]))
        beam = problem.sorted(found, starts[0])[:_BEAM]
        after = float(problem.excess(beam[:1]))
        if after == 0:
            break
        left = _PATIENCE if after < before else left - 1
    return beam[0]


def _pairs(problem: CountProblem, counts: torch.Tensor) -> torch.Tensor:
    """Candidates with one or two groups changed, those that by their separate effects come nearest to the target."""
    owner, moved = _single_moves(problem.allowed, counts)
    alone = counts.repeat(len(owner) + 1, 1)  # the last one changes nothing
    alone[torch.arange(len(owner)), owner] = moved
    prices = problem.price(alone).double()
    effect = prices - prices[-1]
    left, right = torch.triu_indices(len(alone), len(alone), 1)
    group = torch.cat([owner, torch.tensor([-1])])
    apart = group[left] != group[right]
    left, right = left[apart], right[apart]
    change = (alone - counts).abs().sum(1).double()
    excess = ((prices[-1] + effect[left] + effect[right] - problem.wanted).abs() - problem.slack).clamp(min=0)
    key = excess / max(1.0, problem.wanted) + 1e-9 * (change[left] + change[right])
    chosen = key.topk(min(_SHORTLIST, len(key)), largest=False).indices
    both = alone[left[chosen]]
    second, owner = right[chosen], group[right[chosen]]
    rows = (owner >= 0).nonzero().flatten()
    both[rows, owner[rows]] = alone[second[rows], owner[rows]]
    return both


def _single_moves(allowed: Sequence[torch.Tensor], counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Groups and their changed counts: all allowed ones where groups are few, else those next to the present count."""
    reach = max(2, _MOVES // (2 * len(allowed)))
    owners, moved = [], []
    for group, choices in enumerate(allowed):
        here = int(torch.searchsorted(choices, counts[group]))
        others = torch.cat([choices[max(0, here - reach) : here], choices[here + 1 : here + 1 + reach]])
        owners.append(torch.full_like(others, group))
        moved.append(others)
    return torch.cat(owners), torch.cat(moved)
