"""Program -> one HTML file that needs nothing else: data, style, scripts and libraries are inside."""

from __future__ import annotations

import html
from string import Template

from atofx.program import Program
from atofx.report.inline import document, library, read, script
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
    scripts = [script(library(name), name) for name in _LIBRARIES]
    scripts += [script(read("page", f"{name}.js"), f"atofx-{name}") for name in _SCRIPTS]
    body = Template(read("page", "page.html")).substitute(
        {name: html.escape(text) for name, text in texts.items()},
    )
    style = read("page", "theme.css") + read("page", "style.css")
    return document(texts["title"], body, style, data, scripts)


def frame_html(program: Program) -> str:
    """The page in a frame, for notebooks."""
    page = html.escape(page_html(program))
    return (
        f'<iframe srcdoc="{page}" title="dependency graph" sandbox="allow-scripts allow-downloads" '
        f'style="width: 100%; height: {_FRAME_HEIGHT}px; border: 1px solid #888"></iframe>'
    )
