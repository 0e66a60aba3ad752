"""ATO's controller: a bidirectional GRU that gives every prunable unit a keep logit.

Source: authors' code of *Auto-Train-Once* (CVPR 2024, arXiv 2403.14729); sizes, constants and sampling as there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

INPUT_SIZE = 64
HIDDEN_SIZE = 128
TAU = 0.4
OFFSET = 3.0
_TINY = 1e-20


class Controller(nn.Module):
    """Fixed orthogonal inputs (L, 1, 64) -> bi-GRU -> LayerNorm(256), ReLU -> one bias-free head per group.

    Args:
        sizes: units of each of the L groups.
        seed: initial weights; the global random state is left alone.
        tau: temperature of the Gumbel-sigmoid.
        offset: b, added to every logit; b = 3 starts with every unit kept.
    """

    inputs: torch.Tensor

    def __init__(self, sizes: Sequence[int], *, seed: int = 0, tau: float = TAU, offset: float = OFFSET) -> None:
        super().__init__()
        self.tau = tau
        self.offset = offset
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            inputs = torch.empty(len(sizes), 1, INPUT_SIZE, dtype=torch.float32)
            self.register_buffer("inputs", nn.init.orthogonal_(inputs))
            self.gru = nn.GRU(INPUT_SIZE, HIDDEN_SIZE, bidirectional=True, dtype=torch.float32)
            self.norm = nn.LayerNorm(2 * HIDDEN_SIZE, dtype=torch.float32)
            self.heads = nn.ModuleList(nn.Linear(2 * HIDDEN_SIZE, n, bias=False, dtype=torch.float32) for n in sizes)

    def forward(self) -> torch.Tensor:
        """Logits o of all units, flat in the order of the groups."""
        states, _ = self.gru(self.inputs)
        features = torch.relu(self.norm(states))
        return torch.cat([head(feature).flatten() for head, feature in zip(self.heads, features, strict=True)])

    def soft(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Y = sigmoid((o + g + b) / tau) with a single Gumbel draw g (not a logistic difference)."""
        return torch.sigmoid((logits + gumbel(logits.shape, generator) + self.offset) / self.tau)

    def hard(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """1 where y >= 0.5, else 0; the gradient passes straight through to y."""
        return straight_through(self.soft(logits, generator))

    def keep_probability(self, logits: torch.Tensor) -> torch.Tensor:
        """P(y >= 0.5) = P(g >= -(o + b)) = 1 - exp(-exp(o + b))."""
        return -torch.expm1(-torch.exp(logits + self.offset))


def gumbel(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """G = -ln(-ln(U + 1e-20) + 1e-20), U uniform on [0, 1)."""
    uniform = torch.rand(shape, generator=generator)
    return -torch.log(-torch.log(uniform + _TINY) + _TINY)


def straight_through(soft: torch.Tensor) -> torch.Tensor:
    """The bits ``soft >= 0.5`` as floats, with the gradient of ``soft``."""
    bits = (soft >= 0.5).to(soft.dtype)
    return bits + (soft - soft.detach())
