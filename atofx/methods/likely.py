"""Combinations of independent choices, the most probable first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import torch


def most_probable(probabilities: Sequence[torch.Tensor]) -> Iterator[tuple[int, ...]]:
    """Every combination of one candidate a choice, by falling product of their probabilities.

    Args:
        probabilities: one vector a choice, (candidates,).

    Yields:
        The index of a candidate for every choice.
    """
    logs = [torch.log(vector.double().clamp(min=1e-300)) for vector in probabilities]
    ranks = [torch.argsort(log, descending=True, stable=True).tolist() for log in logs]
    falling = [[float(log[index]) for index in rank] for log, rank in zip(logs, ranks, strict=True)]
    start = (0,) * len(ranks)
    heap = [(-sum(log[0] for log in falling), start)]
    seen = {start}
    while heap:
        loss, places = heapq.heappop(heap)
        yield tuple(rank[place] for rank, place in zip(ranks, places, strict=True))
        for i, place in enumerate(places):
            further = (*places[:i], place + 1, *places[i + 1 :])
            if place + 1 < len(ranks[i]) and further not in seen:
                seen.add(further)
                heapq.heappush(heap, (loss + falling[i][place] - falling[i][place + 1], further))
