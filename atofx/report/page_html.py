"""Program -> one HTML file that needs nothing else: data, style, scripts and libraries are inside."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from atofx.program import Program
from atofx.report.page_data import page_data

_LIBRARIES = ("cytoscape.min.js", "dagre.min.js")
_SCRIPTS = (
    "cost",
    "mask",
    "format",
    "colours",
    "hierarchy",
    "layout",
    "search",
    "dom",
    "view",
    "details",
    "sliders",
    "main",
)
_FRAME_HEIGHT = 640


def page_html(program: Program) -> str:
    """The page of a program. FLOPs in it are fused multiply-adds counted once, from the program's own cost model."""
    data = page_data(program)
    texts = {
        "title": f"{data['model']}: dependency graph",
        "capture": data["capture"],
        "version": data["version"],
    }
    scripts = [_script(_library(name), name) for name in _LIBRARIES]
    scripts += [_script(_read("page", f"{name}.js"), f"atofx-{name}") for name in _SCRIPTS]
    return Template(_read("page", "page.html")).substitute(
        {name: html.escape(text) for name, text in texts.items()},
        style=_read("page", "style.css"),
        data=_json(data),
        scripts="\n".join(scripts),
    )


def frame_html(program: Program) -> str:
    """The page in a frame, for notebooks."""
    page = html.escape(page_html(program))
    return (
        f'<iframe srcdoc="{page}" title="dependency graph" sandbox="allow-scripts allow-downloads" '
        f'style="width: 100%; height: {_FRAME_HEIGHT}px; border: 1px solid #888"></iframe>'
    )


def _library(name: str) -> str:
    """A library behind its licence, without the pointer to a file that is not there."""
    code = _read("vendor", name).partition("\n//# sourceMappingURL=")[0]
    return f"/*\n{_read('vendor', name.removesuffix('.min.js') + '.LICENSE.txt')}\n*/\n{code}"


def _script(code: str, name: str) -> str:
    safe = code.replace("</script", r"<\/script")
    return f'<script id="{name}">\n{safe}\n</script>'


def _json(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _read(folder: str, name: str) -> str:
    return files("atofx.report").joinpath(folder).joinpath(name).read_text(encoding="utf-8")
