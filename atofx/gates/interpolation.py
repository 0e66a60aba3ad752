"""Channel-wise interpolation: tensors of different widths brought to one, so that they can be added up."""

from __future__ import annotations

import torch
from torch import Tensor


def channel_interpolation(x: Tensor, size: int, *, dim: int = 1, run: int = 1) -> Tensor:
    """Adaptive average pooling along the channels, up to a larger number of them.

    Channel i of the result is the mean of channels floor(i c / size) to ceil((i + 1) c / size) - 1 of the c there are:
    one or two of them.

    Source: Dong and Yang, *Network Pruning via Transformable Architecture Search*, NeurIPS 2019, section 3.1 (CWI).

    Args:
        x: (..., c · run, ...), with the channels along ``dim``.
        size: wanted number of channels, at least c.
        dim: the dimension of the channels.
        run: places of a channel, side by side.

    Returns:
        (..., size · run, ...).

    Raises:
        ValueError: ``size`` is below c.
    """
    have = x.shape[dim] // run
    if size < have:
        raise ValueError(f"{have} channels are interpolated to as many or more, not to {size}")
    if size == have:
        return x
    steps = torch.arange(size, device=x.device)
    first = torch.div(steps * have, size, rounding_mode="floor")
    last = torch.div((steps + 1) * have + size - 1, size, rounding_mode="floor") - 1
    return (x.index_select(dim, _places(first, run)) + x.index_select(dim, _places(last, run))) / 2


def _places(channels: Tensor, run: int) -> Tensor:
    return (channels[:, None] * run + torch.arange(run, device=channels.device)).flatten()
