"""Parts of HTML files that need nothing else: scripts, libraries and data inside."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any


def document(title: str, body: str, style: str, data: dict[str, Any], scripts: Sequence[str]) -> str:
    """A whole page, which may load nothing.

    Args:
        title: as text.
        body: HTML.
        style: CSS.
        data: what its scripts find in the element ``data``.
        scripts: script elements.
    """
    return Template(read("page", "frame.html")).substitute(
        title=html.escape(title), body=body, style=style, data=embedded(data), scripts="\n".join(scripts)
    )


def library(name: str) -> str:
    """A library behind its licence, without the pointer to a file that is not there."""
    code = read("vendor", name).partition("\n//# sourceMappingURL=")[0]
    return f"/*\n{read('vendor', name.removesuffix('.min.js') + '.LICENSE.txt')}\n*/\n{code}"


def script(code: str, name: str) -> str:
    """A script element."""
    safe = code.replace("</script", r"<\/script")
    return f'<script id="{name}">\n{safe}\n</script>'


def embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in; numbers that are none (a loss that diverged) are null."""
    return json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(folder: str, name: str) -> str:
    """A file of a folder of this package."""
    return files("atofx.report").joinpath(folder).joinpath(name).read_text(encoding="utf-8")
