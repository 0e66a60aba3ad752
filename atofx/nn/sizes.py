"""Graphs that hold for some sizes only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, fx
from torch.overrides import handle_torch_function, has_torch_function

from atofx.errors import InputSizeError


def expect_sizes(x: Tensor, sizes: Sequence[int | None]) -> Tensor:
    """The tensor itself, if it has these sizes; None stands for any.

    torch.export makes constants of some sizes, and of numbers computed from them; a compact graph makes constants of
    the places of channels, and of how many there are, also where they are flattened together with pixels.

    Raises:
        InputSizeError: it has others, for which the graph would compute something else than the model.
    """
    if has_torch_function((x,)):
        traced: Tensor = handle_torch_function(expect_sizes, (x,), x, sizes)
        return traced
    if x.dim() != len(sizes) or any(size not in (None, given) for given, size in zip(x.shape, sizes, strict=True)):
        expected = ", ".join("any" if size is None else str(size) for size in sizes)
        raise InputSizeError(
            f"this graph holds for a tensor of shape ({expected}) here, not {tuple(x.shape)}: it uses these sizes as "
            "numbers. Trace the model with an example of the new size"
        )
    return x


@fx.has_side_effect
def expect_decision(value: float, decided: float, where: str) -> None:
    """Go on, if a number computed from sizes is what the model's Python code once made a decision by.

    ``if``, ``range``, ``int`` and ``for`` over the pieces of a tensor happen while a model is traced, and the graph has
    one outcome of each.

    Args:
        value: a number, or the truth of a comparison, for these inputs.
        decided: the same for the example that was traced.
        where: the place in the model's code.

    Raises:
        InputSizeError: it is another one, for which the graph would compute something else than the model.
    """
    if has_torch_function((value,)):
        handle_torch_function(expect_decision, (value,), value, decided, where)
    elif not _is(value, decided):
        raise InputSizeError(
            f"the model decides something by its inputs' sizes{where}, and this graph holds where that is {decided}, "
            f"not {value}. Trace the model with an example of the new size"
        )


def _is(value: float, decided: float) -> bool:
    """Equality; torch.compile cannot compare the truth of something about free sizes with a constant."""
    if isinstance(decided, bool):
        return bool(value) if decided else not value
    return value == decided
