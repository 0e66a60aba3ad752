"""Two masks of one model, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atofx.errors import MaskError
from atofx.ir.mask import Mask
from atofx.report.text import percent, table


@dataclass(frozen=True)
class GroupDifference:
    """What two masks do with one group.

    Attributes:
        name: the group.
        units: how many it has.
        first, second: how many each mask keeps.
        both: how many both keep.
    """

    name: str
    units: int
    first: int
    second: int
    both: int

    @property
    def agreement(self) -> float:
        """Share of the units that both keep or both drop."""
        return 1 - (self.first + self.second - 2 * self.both) / self.units


def differences(first: Mask, second: Mask) -> tuple[GroupDifference, ...]:
    """Group by group, in the order of the first mask.

    Raises:
        MaskError: the masks have different groups, or groups of different sizes: they belong to different models, or
            to different ``freeze=`` and ``only=``.
    """
    for name in [*first, *second]:
        sizes = [mask[name].numel() if name in mask else None for mask in (first, second)]
        if None in sizes:
            which = "second" if sizes[1] is None else "first"
            raise MaskError(
                f"the {which} mask has no group {name!r}: the masks belong to different models, or were made with "
                "another freeze, only or granularity"
            )
        if sizes[0] != sizes[1]:
            raise MaskError(
                f"group {name!r} has {sizes[0]} units in the first mask and {sizes[1]} in the second: the masks belong "
                "to different models, or were made with another granularity"
            )
    return tuple(
        GroupDifference(name, kept.numel(), int(kept.sum()), int(second[name].sum()), int((kept & second[name]).sum()))
        for name, kept in first.items()
    )


def difference_text(rows: Sequence[GroupDifference], names: tuple[str, str]) -> str:
    """The page of ``atofx diff``: groups on which the masks differ, and all together."""
    units, first, second, both = (
        sum(getattr(row, part) for row in rows) for part in ("units", "first", "second", "both")
    )
    total = GroupDifference("all groups", units, first, second, both)
    shown = [row for row in rows if row.agreement < 1]
    cells = [
        (row.name, str(row.units), str(row.first), str(row.second), str(row.both), f"{100 * row.agreement:.1f} %")
        for row in ([*shown, total] if units else [])
    ]
    head = [
        f"A  {names[0]}: keeps {first} of {units} units ({percent(first, units)})",
        f"B  {names[1]}: keeps {second} of {units} units ({percent(second, units)})",
        "",
    ]
    if not shown:
        return "\n".join([*head, f"The masks are equal in all {len(rows)} groups."])
    same = len(rows) - len(shown)
    tail = f"\n\n{same} other groups are equal." if same > 1 else "\n\nOne other group is equal." if same else ""
    columns = ("group", "units", "kept by A", "kept by B", "by both", "same fate")
    return "\n".join([*head, table(columns, cells)]) + tail
