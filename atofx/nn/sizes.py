"""Inputs of graphs that hold for some sizes only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def expect_sizes(x: Tensor, sizes: Sequence[int | None]) -> Tensor:
    """The tensor itself, if it has these sizes; None stands for any.

    torch.export makes constants of some sizes, and of numbers computed from them.

    Raises:
        ValueError: it has others, for which the graph would compute something else than the model.
    """
    if x.dim() != len(sizes) or any(size not in (None, given) for given, size in zip(x.shape, sizes, strict=True)):
        expected = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(
            f"this graph was recorded by torch.export for inputs of shape ({expected}), not {tuple(x.shape)}: the "
            "model uses these sizes as numbers. Trace it with an example of the new size"
        )
    return x
