"""``--round-to``: a number, or what a back end likes here."""

from __future__ import annotations

from atofx.bench import Setting
from atofx.bench.preferred import round_to_number
from atofx.cli import output


def multiple_of(text: str, setting: Setting) -> int:
    """The number of channels that widths are multiples of; what ``auto`` has found is said.

    Raises:
        ConfigError: the text is neither a number nor ``auto``, or the back end is missing here.
    """
    multiple = round_to_number(text, setting)
    if not text.isdecimal():
        output.warn(f"--round-to {text}: widths are multiples of {multiple}, as measured on this machine")
    return multiple
