"""What a one-difficulty net is, and how the files of this folder collect theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import nn

Mode = Literal["eval", "train"]
Inputs = Callable[[int], Any]
Expected = int | tuple[int, int]
Net = TypeVar("Net", bound=type[nn.Module])

BOTH: tuple[Mode, ...] = ("eval", "train")


@dataclass(frozen=True)
class Case:
    """One small net with one difficulty.

    Attributes:
        name: what the difficulty is called in test names.
        build: makes the net, in float32 with its own initial weights.
        inputs: batch size -> example inputs in float64 (a tensor, a tuple or a dict), drawn from torch's generator.
        trap: the difficulty, and what must come out.
        expect: ``"conv1.weight:0"`` -> how many coordinates along that axis must be prunable, or a pair of that number
            and how many units they form. Axes on which several answers are right are left out.
        modes: the modes in which the net is a function of its inputs alone.
        may_refuse: tracing may raise a ``TraceError`` instead, since Python decides by what it sees.
        one_size: what is made of it may refuse images of another size, although the net takes them.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    trap: str
    expect: Mapping[str, Expected] = field(default_factory=dict)
    modes: tuple[Mode, ...] = BOTH
    may_refuse: bool = False
    one_size: bool = False


class Family:
    """The cases of one file, in the order in which they are written."""

    def __init__(self) -> None:
        self._cases: list[Case] = []

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def case(
        self,
        inputs: Inputs,
        expect: Mapping[str, Expected] | None = None,
        *,
        modes: tuple[Mode, ...] = BOTH,
        may_refuse: bool = False,
    ) -> Callable[[Net], Net]:
        """Collect the class below as a case; its docstring is the trap."""

        def collect(net: Net) -> Net:
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", net.__name__).lower()
            self.add(name, net, inputs, net.__doc__ or "", expect, modes=modes, may_refuse=may_refuse)
            return net

        return collect

    def add(
        self,
        name: str,
        build: Callable[[], nn.Module],
        inputs: Inputs,
        trap: str,
        expect: Mapping[str, Expected] | None = None,
        *,
        modes: tuple[Mode, ...] = BOTH,
        may_refuse: bool = False,
        one_size: bool = False,
    ) -> None:
        """Collect one case that no class of its own stands for."""
        if not trap.strip():
            raise ValueError(f"the case {name!r} does not say what its trap is")
        text = " ".join(trap.split())
        self._cases.append(Case(name, build, inputs, text, dict(expect or {}), modes, may_refuse, one_size))


def image(channels: int = 3, size: int = 6) -> Inputs:
    """Inputs of shape ``(N, channels, size, size)``."""
    return lambda batch: torch.randn(batch, channels, size, size, dtype=torch.float64)


def tokens(width: int = 6, length: int = 5) -> Inputs:
    """Inputs of shape ``(N, length, width)``."""
    return lambda batch: torch.randn(batch, length, width, dtype=torch.float64)


def vectors(width: int = 6) -> Inputs:
    """Inputs of shape ``(N, width)``."""
    return lambda batch: torch.randn(batch, width, dtype=torch.float64)


def words(vocabulary: int = 11, length: int = 5) -> Inputs:
    """Integer inputs of shape ``(N, length)``."""
    return lambda batch: torch.randint(vocabulary, (batch, length))


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the spatial size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class Sandwich(nn.Module):
    """``conv1 -> trap -> conv2``: the smallest net in which a trap can hurt.

    ``width`` channels enter the trap, ``seen`` channels leave it.
    """

    width = 8
    seen = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, self.width)
        self.conv2 = conv(self.seen, 4)

    def trap(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.trap(self.conv1(x)))


PRUNABLE: Mapping[str, Expected] = {"conv1.weight:0": (8, 8), "conv1.bias:0": (8, 8), "conv2.weight:1": (8, 8)}
"""What a harmless trap leaves of a `Sandwich` of width 8: each channel can go on its own."""

PINNED: Mapping[str, Expected] = {"conv1.weight:0": 0, "conv1.bias:0": 0, "conv2.weight:1": 0}
"""What a trap must leave that mixes its channels in a way no smaller net can repeat."""
