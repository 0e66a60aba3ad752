"""Which units attention is pruned in: whole heads, or one dimension of every head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from atofx.errors import ConfigError
from atofx.ir.patterns import covers, require_match

HeadsOrDims: TypeAlias = Literal["heads", "dims"]
GranularityOption: TypeAlias = HeadsOrDims | Mapping[str, HeadsOrDims] | Sequence[tuple[str, HeadsOrDims]]


@dataclass(frozen=True)
class Granularity:
    """Whole heads, unless a pattern says otherwise.

    Attributes:
        choices: (pattern on module names, choice) pairs; the last that covers a module counts.
    """

    choices: tuple[tuple[str, HeadsOrDims], ...] = ()

    def of(self, name: str) -> HeadsOrDims:
        """The choice for the module of that qualified name."""
        return next((choice for pattern, choice in reversed(self.choices) if covers(pattern, name)), "heads")


WHOLE_HEADS = Granularity()


def granularity(option: GranularityOption, modules: Iterable[str]) -> Granularity:
    """Read the option of :func:`atofx.trace`.

    Args:
        option: ``"heads"``, ``"dims"``, or a choice for each of several patterns on module names (a mapping, or pairs).
        modules: qualified names of the model's modules.

    Raises:
        ConfigError: an unknown choice, or a pattern that covers no module.
    """
    choices = {"*": option} if isinstance(option, str) else dict(option)
    names = [] if set(choices) <= {"*"} else list(modules)
    for pattern, choice in choices.items():
        if choice not in ("heads", "dims"):
            raise ConfigError(f"granularity= knows 'heads' and 'dims', not {choice!r} (for {pattern!r})")
        if pattern != "*":
            require_match(pattern, names, "module")
    return Granularity(tuple((pattern, choice) for pattern, choice in choices.items()))
