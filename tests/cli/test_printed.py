"""docs/commands.md shows what the commands print: every console and Python block is run, in order, in one folder."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/commands.md"
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ERROR = re.compile(r"\d\.\de-\d\d")  # rounding differs from machine to machine


def shown() -> list[tuple[str, str]]:
    """(command, what it prints), in order; Python code comes with the command "python"."""
    found = []
    for kind, block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            found.append(("python", block))
            continue
        for part in ("\n" + block).split("\n$ ")[1:]:
            command, _, text = part.partition("\n")
            found.append((command, text))
    return found


def test_commands_print_what_the_page_says(atofx_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = shown()
    named = {command.split()[-1 if command == "python" else 1] for command, _ in commands}
    assert named >= {"inspect", "explain", "verify", "prune", "compact", "diff", "bench"}
    for command, text in commands:
        if command == "python":
            (tmp_path / "block.py").write_text(text, encoding="utf-8")
            runpy.run_path(str(tmp_path / "block.py"))
            continue
        result = atofx_command(*command.split()[1:])
        printed = (result.stdout + result.stderr).strip()
        assert _ERROR.sub("…", printed) == _ERROR.sub("…", text.strip()), command
        assert result.exit_code == (2 if text.startswith("atofx: ") else 0)
