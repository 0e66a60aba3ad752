"""Program -> Graphviz: modules as clusters, nodes in the colours of their groups, shapes on edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atofx.errors import MissingError
from atofx.program import Program
from atofx.report.palette import GROUPS, WHOLE, tint
from atofx.report.sketch import Sketch, sketch

if TYPE_CHECKING:
    import graphviz

_FONT = "Helvetica,Arial,sans-serif"


def dot(program: Program) -> graphviz.Digraph:
    """The graph in Graphviz' language, for its ``source`` or its ``pipe``.

    Raises:
        MissingError: the Python package ``graphviz`` is not installed.
    """
    try:
        import graphviz
    except ModuleNotFoundError as error:
        raise MissingError(
            "writing the graph for Graphviz needs the Python package graphviz: pip install 'atofx[draw]'"
        ) from error
    view = sketch(program)
    drawing = graphviz.Digraph(type(program.module).__name__)
    drawing.attr("graph", rankdir="TB", fontname=_FONT)
    drawing.attr("node", shape="box", style="rounded,filled", fontname=_FONT, fontsize="11", margin="0.16,0.05")
    drawing.attr("edge", fontname=_FONT, fontsize="9", color="#555555")
    _module(drawing, view, "", graphviz)
    for edge in view.edges:
        drawing.edge(edge.source, edge.target, label=edge.label)
    return drawing


def _module(drawing: graphviz.Digraph, view: Sketch, path: str, graphviz: Any) -> None:
    """A module's own nodes, then each module in it as a cluster."""
    for node in view.nodes_of.get(path, ()):
        colours = [tint(GROUPS[number % len(GROUPS)]) for number in node.groups[:4]]
        whole = not colours and node.whole
        drawing.node(
            node.key,
            label=graphviz.escape(f"{node.name.removeprefix(f'{path}.') if path else node.name}\n{node.operation}"),
            tooltip=graphviz.escape(node.tooltip),
            fillcolor=":".join(colours) or (tint(WHOLE, 0.21) if whole else "white"),
            style="rounded,filled,dashed" if whole else "rounded,filled",
        )
    for child in view.modules_of.get(path, ()):
        with drawing.subgraph(name=f"cluster_{child}") as cluster:
            cluster.attr(label=graphviz.escape(child), style="rounded", color="#888888", labeljust="l")
            _module(cluster, view, child, graphviz)
