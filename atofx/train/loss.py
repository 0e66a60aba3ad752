"""Cross-entropy with label smoothing and mixup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atofx.train.keys import generator_seed

_MIXUP = 4


@dataclass(frozen=True, eq=False)
class Mixed:
    """A batch blended with a permutation of itself: inputs, both labels, and the share of the first.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; one coefficient a batch.
    """

    inputs: Any
    labels: Tensor
    others: Tensor
    share: float

    def loss(self, logits: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy, in float32."""
        logits = logits.float()
        first = F.cross_entropy(logits, self.labels, label_smoothing=label_smoothing)
        if self.share == 1.0:
            return first
        second = F.cross_entropy(logits, self.others, label_smoothing=label_smoothing)
        return self.share * first + (1 - self.share) * second


def mixed(inputs: Any, labels: Tensor, alpha: float, seed: int, step: int) -> Mixed:
    """The batch with mixup of Beta(alpha, alpha); as it is for ``alpha`` 0. A pure function of seed and step.

    Args:
        inputs: a tensor (batch, ...); with ``alpha`` 0 anything.
        labels: (rows,), int64; with ``alpha`` above 0 (batch,).
        alpha: of the distribution that the share of the first is drawn from.
        seed: of the run.
        step: the optimizer step, 0-based.
    """
    if alpha == 0:
        return Mixed(inputs, labels, labels, 1.0)
    rng = np.random.default_rng(generator_seed(seed, _MIXUP, step))
    share = float(rng.beta(alpha, alpha))
    order = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
    return Mixed(share * inputs + (1 - share) * inputs[order], labels, labels[order], share)
