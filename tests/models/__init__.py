"""Small nets with one difficulty each."""

from __future__ import annotations

from tests.models import (
    aliases,
    attacks,
    attention,
    constants,
    contractions,
    movement,
    norms,
    pointwise,
    reductions,
    standardised,
    structure,
)
from tests.models.case import Case, Expected, Mode

FAMILIES = {
    "movement": movement.family,
    "pointwise": pointwise.family,
    "reductions": reductions.family,
    "contractions": contractions.family,
    "norms": norms.family,
    "constants": constants.family,
    "standardised": standardised.family,
    "aliases": aliases.family,
    "attacks": attacks.family,
    "attention": attention.family,
    "structure": structure.family,
}
CASES: tuple[Case, ...] = tuple(case for family in FAMILIES.values() for case in family)

__all__ = ["CASES", "FAMILIES", "Case", "Expected", "Mode"]
