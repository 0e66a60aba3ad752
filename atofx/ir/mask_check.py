"""Whether a mask fits the groups of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from atofx.errors import MaskError
from atofx.ir.groups import Group
from atofx.ir.mask import Mask


def checked(prunable: Sequence[Group], mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mask's vectors, boolean, one per prunable group.

    Raises:
        MaskError: unknown or missing groups, wrong lengths, values other than 0 and 1, or an empty group.
    """
    vectors = dict(Mask(mask))
    check_names(prunable, vectors)
    missing = [g.name for g in prunable if g.name not in vectors]
    if missing:
        raise MaskError(
            f"the mask lacks the groups {', '.join(missing[:5])}; start from program.full_mask(), or trace with "
            "the freeze= and only= of the program it was made for"
        )
    empty = [name for name, vector in vectors.items() if not bool(vector.any())]
    if empty:
        names = ", ".join(empty[:5])
        raise MaskError(f"the mask leaves nothing of {names}; every group must keep at least one unit")
    return vectors


def check_names(prunable: Sequence[Group], vectors: Mapping[str, Tensor]) -> None:
    """Refuse vectors, hard or soft, of groups that there are not or of other lengths.

    Raises:
        MaskError: there is one.
    """
    sizes = {g.name: g.size for g in prunable}
    for name, vector in vectors.items():
        if name not in sizes:
            what = "the mask names a group this program does not have"
            raise MaskError(f"{what}: {name!r}; is it another model's mask?")
        if vector.shape != (sizes[name],):
            shape = tuple(vector.shape)
            raise MaskError(f"the mask of {name!r} has shape {shape}, the group has {sizes[name]} units")
