"""docs/commands.md shows what the commands print: every console block is run, in order, in one folder."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/commands.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ERROR = re.compile(r"\d\.\de-\d\d")  # rounding differs from machine to machine


def shown() -> list[tuple[str, str]]:
    """(command, what it prints), in order."""
    found = []
    for block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        for part in ("\n" + block).split("\n$ ")[1:]:
            command, _, text = part.partition("\n")
            found.append((command, text))
    return found


def test_commands_print_what_the_page_says(atofx_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = shown()
    assert {command.split()[1] for command, _ in commands} >= {"inspect", "explain", "verify", "prune", "diff", "bench"}
    for command, text in commands:
        result = atofx_command(*command.split()[1:])
        printed = (result.stdout + result.stderr).strip()
        assert _ERROR.sub("…", printed) == _ERROR.sub("…", text.strip()), command
        assert result.exit_code == (2 if text.startswith("atofx: ") else 0)
