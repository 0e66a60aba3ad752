"""One mask vector a group, and the modules that multiply activations by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atofx.errors import InputSizeError, MaskError


class GateBank(nn.Module):
    """Holds the present mask of every group, hard or soft. Not part of the state dict.

    Args:
        sizes: units per group.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.vectors: dict[str, Tensor] = {}

    def set(self, mask: Mapping[str, Tensor] | None) -> None:
        """Use these masks from now on; a group without one is open, None opens all.

        Raises:
            MaskError: an unknown group, or a vector of the wrong length.
        """
        vectors: dict[str, Tensor] = {}
        for name, vector in (mask or {}).items():
            size = self.sizes.get(name)
            if size is None:
                raise MaskError(f"no prunable group is named {name!r}; groups: {', '.join(list(self.sizes)[:8])}, …")
            if vector.shape != (size,):
                shape = tuple(vector.shape)
                raise MaskError(f"the mask of group {name!r} has shape {shape}, the group has {size} units")
            vectors[name] = vector
        self.vectors = vectors

    def hold(self, gate: nn.Module) -> None:
        """Take a gate along to other devices that is registered nowhere else."""
        if all(gate is not other for other in self.children()):
            self.add_module(str(len(self._modules)), gate)


@dataclass(frozen=True)
class Pattern:
    """How channels are placed along a dimension of which the example says one length.

    Attributes:
        run: positions of a channel, which lie side by side. Where it is above 1 (channels flattened together with
            pixels), it may be another later.
        period: after how many positions the same channels come again (flattened together with samples), as often as
            there is room.
    """

    run: int | None = None
    period: int | None = None


#: The number of positions is fixed.
AS_THEY_ARE = Pattern()


class ChannelGate(nn.Module):
    """Multiplies one dimension of a tensor by the masks of the groups its channels belong to.

    A channel whose value is another constant than zero once it is dropped goes there instead: ``m x + (1 - m) c``.

    Args:
        bank: where the masks are.
        dim: the dimension, counted from the end (negative), so that the batch size is free.
        units: group name -> (positions along the dimension, unit of each position).
        rest: the constants, one per position at the example input.
        pattern: how the channels are placed, so that there may be another number of positions later.
    """

    rest: Tensor | None

    def __init__(
        self,
        bank: GateBank,
        dim: int,
        units: Mapping[str, tuple[Tensor, Tensor]],
        rest: Tensor,
        pattern: Pattern = AS_THEY_ARE,
    ) -> None:
        super().__init__()
        self._bank = (bank,)  # in a tuple, so that it is registered once, not once a gate
        self.dim = dim
        self.pattern = pattern
        period, run = pattern.period or rest.numel(), pattern.run or 1
        self.length = period // run
        self.register_buffer("rest", rest[:period:run].clone() if bool(rest.any()) else None, persistent=False)
        first = {name: position < period for name, (position, _) in units.items()}
        units = {name: (p[first[name]][::run] // run, unit[first[name]][::run]) for name, (p, unit) in units.items()}
        self.groups = tuple(units)
        for i, name in enumerate(self.groups):
            self.register_buffer(f"position_{i}", units[name][0], persistent=False)
            self.register_buffer(f"unit_{i}", units[name][1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` times its mask, and the constants for the rest; ``x`` itself where all its groups are open.

        Raises:
            InputSizeError: positions are those of another image size, and cannot be told for this one.
        """
        vectors = self._bank[0].vectors
        present = [(i, vectors[name]) for i, name in enumerate(self.groups) if name in vectors]
        if not present:
            return x
        factor = torch.ones(self.length, dtype=x.dtype, device=x.device)
        for i, vector in present:
            values = vector.to(device=x.device, dtype=x.dtype)[self.get_buffer(f"unit_{i}")]
            factor = factor.index_put((self.get_buffer(f"position_{i}"),), values)
        gated = x * self._spread(factor, x)
        return gated if self.rest is None else gated + self._spread((1 - factor) * self.rest.to(x.dtype), x)

    def _spread(self, values: Tensor, x: Tensor) -> Tensor:
        """One value a channel along the gate's dimension of ``x``."""
        size = x.shape[self.dim]
        if size % self.length or (size != self.length and self.pattern == AS_THEY_ARE):
            raise InputSizeError(
                f"the gate for {', '.join(self.groups)} stands before a tensor of {self.length} channels along dim "
                f"{self.dim}, not {size}: channels are placed there between pixels or samples, of another number now. "
                "Trace the model with an example of the new size"
            )
        if size != self.length and self.pattern.period is not None:  # flattened together with samples
            values = values.repeat(size // self.length)
        elif size != self.length:  # flattened together with pixels
            values = values.repeat_interleave(size // self.length)
        return values.reshape((-1,) + (1,) * (-self.dim - 1))

    def extra_repr(self) -> str:
        """Dimension and groups, for printing."""
        return f"dim={self.dim}, groups={list(self.groups)}"
