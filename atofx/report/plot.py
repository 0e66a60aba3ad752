"""Program -> picture by matplotlib and networkx, for machines without Graphviz: every node in the row of its depth."""

from __future__ import annotations

import io

import networkx as nx

from atofx.errors import MissingError
from atofx.program import Program
from atofx.report.palette import GROUPS, WHOLE, tint
from atofx.report.sketch import sketch

_INCHES = (2.4, 0.75)  # of a node: width, height
_LONGEST = 160.0  # inches of a picture's side


def plot(program: Program, form: str) -> bytes:
    """The picture.

    Args:
        program: what to draw.
        form: ``"svg"`` or ``"png"``.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingError(
            f"drawing a .{form} needs Graphviz (its program `dot` on the path and the Python package: "
            "pip install 'atofx[draw]'), or matplotlib: pip install matplotlib"
        ) from error
    view = sketch(program)
    nodes = {node.key: node for inside in view.nodes_of.values() for node in inside}
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((edge.source, edge.target) for edge in view.edges)
    rows = list(nx.topological_generations(graph))
    for depth, row in enumerate(rows):
        for key in row:
            graph.nodes[key]["row"] = -depth
    places = nx.multipartite_layout(graph, subset_key="row", align="horizontal")
    margin = 2.0 / max(1, len(rows))
    size = (max(map(len, rows), default=1) * _INCHES[0], max(1, len(rows)) * _INCHES[1])
    figure = Figure(figsize=(min(size[0], _LONGEST), min(size[1], _LONGEST)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    nx.draw_networkx_edges(graph, places, ax=axes, edge_color="#777777", arrowsize=7, node_size=900)
    labels = {(edge.source, edge.target): edge.label for edge in view.edges}
    nx.draw_networkx_edge_labels(graph, places, labels, ax=axes, font_size=4, rotate=False)
    for key, node in nodes.items():
        colour = tint(GROUPS[node.groups[0] % len(GROUPS)]) if node.groups else tint(WHOLE, 0.21 if node.whole else 0)
        box = {"boxstyle": "round", "facecolor": colour, "edgecolor": "#444444"}
        x, y = places[key]
        axes.text(x, y, f"{node.name}\n{node.operation}", ha="center", va="center", fontsize=6, bbox=box)
    axes.set_ylim(min(y for _, y in places.values()) - margin, max(y for _, y in places.values()) + margin)
    out = io.BytesIO()
    figure.savefig(out, format=form, dpi=min(150, 60_000 / (max(figure.get_size_inches()) + 1)))
    return out.getvalue()
