"""Windows as batches for the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atofx.train.plan import Batch
from atofx.train.squad.windows import Windows


@dataclass(frozen=True, eq=False)
class Sequences:
    """Batches of windows, each cut to its longest one.

    Attributes:
        windows: all of them.
        device: where the batches go.
    """

    windows: Windows
    device: torch.device

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def batches(self, plan: Iterable[Batch]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """For each planned batch BERT's inputs by keyword, (N, L) int64 each, and targets (N, 2)."""
        for batch in plan:
            rows = torch.from_numpy(batch.indices)
            yield self._inputs(rows), self.windows.targets[rows].to(self.device)

    def _inputs(self, rows: Tensor) -> dict[str, Tensor]:
        windows = self.windows
        lengths, context = windows.lengths[rows, None], windows.context[rows, None]
        place = torch.arange(int(lengths.max()))
        is_token = place < lengths
        inputs = {
            "input_ids": windows.ids[rows, : len(place)].long(),
            "attention_mask": is_token.long(),
            "token_type_ids": (is_token & (place >= context)).long(),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}
