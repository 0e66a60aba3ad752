"""How much of every group is kept, epoch by epoch, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

_CELL = 6  # pixels of a cell's side


def heat_map(shares: Sequence[Mapping[str, float]]) -> npt.NDArray[np.uint8]:
    """A row a group, a column an epoch; dark is dropped, bright is kept (the colours of viridis).

    Args:
        shares: for each epoch, the kept share (0..1) of every group by name; what is missing has gone with its block.

    Returns:
        (3, height, width).
    """
    names = dict.fromkeys(name for epoch in shares for name in epoch)
    values = np.asarray([[epoch.get(name, 0.0) for epoch in shares] for name in names], dtype=np.float64)
    colours = mpl.colormaps["viridis"](values, bytes=True)[..., :3]
    cells = colours.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return np.ascontiguousarray(cells.transpose(2, 0, 1))
