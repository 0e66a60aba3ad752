"""Parts of HTML files that need nothing else: scripts, libraries and data inside."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def library(name: str) -> str:
    """A library behind its licence, without the pointer to a file that is not there."""
    code = read("vendor", name).partition("\n//# sourceMappingURL=")[0]
    return f"/*\n{read('vendor', name.removesuffix('.min.js') + '.LICENSE.txt')}\n*/\n{code}"


def script(code: str, name: str) -> str:
    """A script element."""
    safe = code.replace("</script", r"<\/script")
    return f'<script id="{name}">\n{safe}\n</script>'


def embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def read(folder: str, name: str) -> str:
    """A file of a folder of this package."""
    return files("atofx.report").joinpath(folder).joinpath(name).read_text(encoding="utf-8")
