"""Scores of the OTO family for whole units, from their parameters x and gradients g; every term over its global norm.

Sources: DHSPG, OTOv2 (Chen et al., ICLR 2023, arXiv 2303.06862); HESSO (Chen et al., arXiv 2409.09085); and the
authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atofx.methods.flat import FlatUnits

EPS = 1e-6
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Moments:
    """What the scores are made of, one value per unit.

    Attributes:
        squares: ``||x||^2``.
        products: ``<x, g>``.
        gradients: ``||g||^2``.
        sizes: number of parameter elements.
    """

    squares: torch.Tensor
    products: torch.Tensor
    gradients: torch.Tensor
    sizes: torch.Tensor

    @classmethod
    def of(cls, units: FlatUnits) -> Moments:
        """From the present parameters and gradients; a missing gradient is zero."""
        x, g = units.read(), units.gradients()
        return cls(units.dots(x, x), units.dots(x, g), units.dots(g, g), units.sizes)

    @property
    def norms(self) -> torch.Tensor:
        """``||x||``."""
        return self.squares.sqrt()

    @property
    def average(self) -> torch.Tensor:
        """``||x|| / size``."""
        return self.norms / self.sizes.clamp(min=1)

    @property
    def cosine(self) -> torch.Tensor:
        """Cosine of x and g; 0 where one of them is zero."""
        lengths = self.norms * self.gradients.sqrt()
        return torch.where(lengths > 0, self.products / lengths.clamp(min=_TINY), torch.zeros_like(lengths))


def redundancy(moments: Moments) -> torch.Tensor:
    """DHSPG's score, high for units to remove: ``N(cos(x, g)) / 2 + N(1 / (||x|| / size + 1e-6)) / 2``.

    A descent step along g shrinks a unit with a positive cosine. N divides by the L2 norm over all units.
    """
    return (_unit(moments.cosine) + _unit(1 / (moments.average + EPS))) / 2


def importance(moments: Moments) -> torch.Tensor:
    """HESSO's score, low for units to remove: the mean of five criteria, each over its L2 norm over all units.

    ``||x||``, ``||x|| / size``, ``cos(x, g) + 1``, ``|<x, g>|`` (first-order Taylor) and ``<x, g>^2 / 2``
    (second-order, with the squared gradient for the Hessian).
    """
    criteria = (
        moments.norms,
        moments.average,
        moments.cosine + 1,
        moments.products.abs(),
        moments.products.square() / 2,
    )
    return torch.stack([_unit(criterion) for criterion in criteria]).mean(0)


def _unit(values: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(values)
    return values / norm.clamp(min=_TINY)
