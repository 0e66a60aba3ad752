"""Colours of groups: Okabe and Ito's palette without black, which colour-blind people can tell apart.

There are more groups than colours, so a group's number stands next to its colour everywhere.
"""

from __future__ import annotations

RGB = tuple[int, int, int]

GROUPS: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
#: What stays whole.
WHOLE: RGB = (128, 128, 128)


def tint(colour: RGB, strength: float = 0.42) -> str:
    """A colour on white, light enough for black text on it, as ``#rrggbb``."""
    return "#" + "".join(f"{round(255 + (part - 255) * strength):02x}" for part in colour)
