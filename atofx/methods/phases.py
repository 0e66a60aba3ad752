"""Points in a training, as fractions of it: checked, and turned into steps."""

from __future__ import annotations

from collections.abc import Mapping

from atofx.errors import ConfigError


def require_fraction(name: str, value: float) -> None:
    """Refuse what is no fraction of the training.

    Raises:
        ConfigError: names the field.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}={value} is not a fraction of training in [0, 1]")


def require_order(fractions: Mapping[str, float]) -> None:
    """Refuse fractions outside of [0, 1] or out of order.

    Raises:
        ConfigError: names the field.
    """
    earlier = ("", 0.0)
    for name, value in fractions.items():
        require_fraction(name, value)
        if value < earlier[1]:
            raise ConfigError(f"{name}={value} lies before {earlier[0]}={earlier[1]}")
        earlier = (name, value)


def step_of(fraction: float, total_steps: int) -> int:
    """The 0-based optimizer step at which ``fraction`` of the training is over."""
    return round(fraction * total_steps)


def require_steps(total_steps: int) -> int:
    """The length of the training.

    Raises:
        ConfigError: below 1.
    """
    if total_steps < 1:
        raise ConfigError(f"total_steps={total_steps} must be at least 1: pass epochs * len(loader)")
    return total_steps


def fade_factor(step: int, length: int) -> float:
    """Linear fade to zero in ``length`` steps: the factor of the ``step``-th (0-based), ``(D - t - 1) / (D - t)``.

    The products of the factors are ``(D - 1) / D, (D - 2) / D, ..., 0``.
    """
    left = length - step
    return (left - 1) / left if left > 1 else 0.0
