"""Graphs that hold for some sizes only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from atofx.errors import InputSizeError


def expect_sizes(x: Tensor, sizes: Sequence[int | None]) -> Tensor:
    """The tensor itself, if it has these sizes; None stands for any.

    torch.export makes constants of some sizes, and of numbers computed from them; a compact graph makes constants of
    the places of channels, and of how many there are, also where they are flattened together with pixels.

    Raises:
        InputSizeError: it has others, for which the graph would compute something else than the model.
    """
    if x.dim() != len(sizes) or any(size not in (None, given) for given, size in zip(x.shape, sizes, strict=True)):
        expected = ", ".join("any" if size is None else str(size) for size in sizes)
        raise InputSizeError(
            f"this graph holds for a tensor of shape ({expected}) here, not {tuple(x.shape)}: it uses these sizes as "
            "numbers. Trace the model with an example of the new size"
        )
    return x
