"""Modules that mix a value of several widths or depths into one. No graph code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from atofx.errors import InputSizeError
from atofx.gates.choices import ChoiceBank
from atofx.gates.interpolation import channel_interpolation

BatchNorm = nn.modules.batchnorm._BatchNorm


class WidthMixture(nn.Module):
    """Mixes one dimension of a tensor over the widths of the groups its channels belong to.

    Of every candidate width the first so many units are taken, interpolated to the widest of them and added up by
    weight (one alone counts whole); what lies beyond is zero. Channels of no such group stay as they are.

    Args:
        bank: where the choices are.
        dim: the dimension, counted from the end (negative), so that the batch size is free.
        length: of the dimension.
        places: group name -> int64 (units, places of each unit) along the dimension.
    """

    def __init__(self, bank: ChoiceBank, dim: int, length: int, places: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._bank = (bank,)  # in a tuple, so that it is registered once
        self.dim = dim
        self.length = length
        self.groups = tuple(places)
        for i, place in enumerate(places.values()):
            self.register_buffer(f"places_{i}", place, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with the channels of every group mixed.

        Raises:
            InputSizeError: the dimension has another length than at the example input.
        """
        if x.shape[self.dim] != self.length:
            raise InputSizeError(
                f"the mixture of {', '.join(self.groups)} stands before a tensor of {self.length} along dim "
                f"{self.dim}, not {x.shape[self.dim]}; trace the model with an example of the new size"
            )
        for i, name in enumerate(self.groups):
            place = self.get_buffer(f"places_{i}")
            run = place.shape[1]
            own = x.index_select(self.dim, place.flatten())
            x = x.index_copy(self.dim, place.flatten(), _mixed(self._bank[0], name, own, self.dim, run, _as_it_is))
        return x


class NormMixture(nn.Module):
    """A batch norm with statistics, weight and bias of its own for every candidate width, and their mixture.

    Args:
        bank: where the choices are.
        norm: the norm of all channels; values of the new ones are copies of its.
        places: group name -> int64 (units, places of each unit) among the channels.
    """

    def __init__(self, bank: ChoiceBank, norm: BatchNorm, places: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._bank = (bank,)  # in a tuple, so that it is registered once
        self.groups = tuple(places)
        flat = {name: place.flatten() for name, place in places.items()}
        taken = torch.zeros(norm.num_features, dtype=torch.bool)
        for place in flat.values():
            taken[place] = True
        rest = (~taken).nonzero().flatten()
        self.runs = tuple(place.shape[1] for place in places.values())
        self.sizes = tuple(len(place) for place in places.values())
        self.candidates = nn.ModuleList(
            nn.ModuleList(norm_of(norm, place[:count].flatten()) for count in bank.candidates[name])
            for name, place in places.items()
        )
        self.others = norm_of(norm, rest) if len(rest) else None
        order = torch.cat([*flat.values(), rest])
        plain = torch.equal(order, torch.arange(norm.num_features))
        self.register_buffer("order", None if plain else order, persistent=False)
        self.register_buffer("back", None if plain else torch.argsort(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...): normalised, every group mixed, zero beyond its present width."""
        order, back = self.order, self.back
        if isinstance(order, Tensor):
            x = x.index_select(1, order)
        parts, start = [], 0
        bank = self._bank[0]
        for name, size, run, norms in zip(self.groups, self.sizes, self.runs, self.candidates, strict=True):
            assert isinstance(norms, nn.ModuleList)
            by_count = dict(zip(bank.candidates[name], norms, strict=True))
            own = x.narrow(1, start, size * run)
            parts.append(_mixed(bank, name, own, 1, run, _Normed(by_count)))
            start += size * run
        if self.others is not None:
            parts.append(self.others(x.narrow(1, start, x.shape[1] - start)))
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return mixed.index_select(1, back) if isinstance(back, Tensor) else mixed


class DepthMixture(nn.Module):
    """Mixes the values after 1, 2, … blocks of a stage.

    Args:
        bank: where the choices are.
        stage: its name.
    """

    def __init__(self, bank: ChoiceBank, stage: str) -> None:
        super().__init__()
        self._bank = (bank,)  # in a tuple, so that it is registered once
        self.stage = stage

    def forward(self, *values: Tensor) -> Tensor:
        """The sum of the candidates' values by weight, all of one shape; the last one without weights."""
        weights = self._bank[0].depths.get(self.stage)
        if weights is None:
            return values[-1]
        weights = weights.to(values[0])
        total = weights[0] * values[0]
        for weight, value in zip(weights[1:], values[1:], strict=True):
            total = total + weight * value
        return total

    def extra_repr(self) -> str:
        """The stage, for printing."""
        return f"stage={self.stage!r}"


def norm_of(norm: BatchNorm, channels: Tensor) -> BatchNorm:
    """A batch norm of some channels of another one, with tensors of its own."""
    own = copy.deepcopy(norm)
    own.num_features = len(channels)
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(norm, name)
        if tensor is not None:
            part = tensor.detach()[channels.to(tensor.device)].clone()
            setattr(own, name, nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part)
    return own


class _Normed:
    """Applies the norm of a width."""

    def __init__(self, by_count: Mapping[int, nn.Module]) -> None:
        self._by_count = by_count

    def __call__(self, value: Tensor, count: int) -> Tensor:
        result: Tensor = self._by_count[count](value)
        return result


def _as_it_is(value: Tensor, count: int) -> Tensor:
    return value


def _mixed(
    bank: ChoiceBank, name: str, x: Tensor, dim: int, run: int, transform: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """The mixture of one group whose units lie in order along ``dim``, as long as ``x``."""
    chosen = bank.widths_of(name)
    widest = max(chosen.counts)
    total: Tensor | None = None
    for count, weight in zip(chosen.counts, chosen.weights.to(x), strict=True):
        value = channel_interpolation(transform(x.narrow(dim, 0, count * run), count), widest, dim=dim, run=run)
        value = value if len(chosen.counts) == 1 else weight * value
        total = value if total is None else total + value
    assert total is not None
    beyond = x.shape[dim] - widest * run
    if not beyond:
        return total
    shape = list(x.shape)
    shape[dim] = beyond
    return torch.cat([total, total.new_zeros(shape)], dim)
