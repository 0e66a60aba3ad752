"""How much of every group is kept, epoch by epoch, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

_CELL = 6  # pixels of a cell's side


def heat_map(shares: Sequence[Sequence[float]]) -> npt.NDArray[np.uint8]:
    """A row a group, a column an epoch; dark is dropped, bright is kept (the colours of viridis).

    Args:
        shares: for each epoch, the kept share (0..1) of every group.

    Returns:
        (3, height, width).
    """
    values = np.asarray(shares, dtype=np.float64).T
    colours = mpl.colormaps["viridis"](values, bytes=True)[..., :3]
    cells = colours.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return np.ascontiguousarray(cells.transpose(2, 0, 1))
