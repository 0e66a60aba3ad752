"""Gumbel-softmax over a few candidates: which of them a forward pass mixes, and with which weights.

Source: Dong and Yang, *Network Pruning via Transformable Architecture Search*, NeurIPS 2019, equations 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-20  # keeps logarithms finite
_AT_LEAST = 1e-7  # probability of every candidate when two are drawn (authors' code)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Candidates that were drawn.

    Attributes:
        indices: of the candidates, rising.
        weights: (indices,), their sum is 1; gradients reach the logits.
    """

    indices: tuple[int, ...]
    weights: Tensor


def gumbel_noise(count: int, generator: torch.Generator) -> Tensor:
    """(count,) draws of the standard Gumbel distribution, -log(-log u) of uniform u; float32 on the CPU."""
    uniform = torch.rand(count, generator=generator)
    return -torch.log(-torch.log(uniform + _TINY) + _TINY)


def perturbed(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """``(log softmax(logits) + noise) / temperature``, whose softmax are the weights of all candidates (equation 3)."""
    return (torch.log_softmax(logits, 0) + noise.to(logits)) / temperature


def draw_all(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Weights of all candidates, for depths."""
    return torch.softmax(perturbed(logits, gumbel_noise(len(logits), generator), temperature), 0)


def draw_two(logits: Tensor, temperature: float, generator: torch.Generator) -> Drawn:
    """Two different candidates, drawn by the perturbed probabilities, and these renormalised over the two.

    Args:
        logits: (candidates,); of a single one, that one is drawn.
        temperature: above 0.
        generator: on the CPU.
    """
    z = perturbed(logits, gumbel_noise(len(logits), generator), temperature)
    probabilities = torch.softmax(z.detach(), 0).double().cpu() + _AT_LEAST
    drawn = torch.multinomial(probabilities, min(2, len(logits)), generator=generator)
    indices = drawn.sort().values
    return Drawn(tuple(indices.tolist()), torch.softmax(z[indices.to(z.device)], 0))
