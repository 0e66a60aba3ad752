"""What a still picture of a program shows: texts of nodes and edges, and which module holds what."""

from __future__ import annotations

from dataclasses import dataclass

from atofx.program import Program


@dataclass(frozen=True)
class SketchNode:
    """A node of the picture.

    Attributes:
        key: name of the graph node.
        name: its qualified name, or the graph node's.
        inside: the module it stands in.
        operation: what it does, with the numbers of its groups, which count from 1.
        tooltip: all else that is known of it.
        groups: positions of the prunable groups of its channels.
        whole: whether it has channels that are kept whole.
    """

    key: str
    name: str
    inside: str
    operation: str
    tooltip: str
    groups: tuple[int, ...]
    whole: bool


@dataclass(frozen=True)
class SketchEdge:
    """An edge of the picture; its label is the shape of what is handed on."""

    source: str
    target: str
    label: str


@dataclass(frozen=True)
class Sketch:
    """The nodes that carry tensors (sizes and the arithmetic on them are left out), and the edges between them.

    Attributes:
        nodes_of: qualified module name -> its own nodes.
        modules_of: qualified module name -> the modules right in it.
        edges: between nodes.
    """

    nodes_of: dict[str, tuple[SketchNode, ...]]
    modules_of: dict[str, tuple[str, ...]]
    edges: tuple[SketchEdge, ...]


def sketch(program: Program) -> Sketch:
    """The picture of a program. FLOPs in it are fused multiply-adds counted once."""
    graph = program.graph
    numbers = {group.name: index for index, group in enumerate(program.prunable)}
    nodes: dict[str, list[SketchNode]] = {}
    modules: dict[str, dict[str, None]] = {}
    shown = set()
    for key, node in graph.nodes(data=True):
        if not node["shapes"] and node["kind"] != "output":
            continue
        shown.add(key)
        path = node["module"]
        groups = tuple(numbers[name] for name in node["groups"] if name in numbers)
        marks = " ".join(f"#{number + 1}" for number in groups[:4])
        operation = f"{node['op'].partition(' (')[0]} {marks}".strip()
        facts = [
            f"{node['name']}: {node['op']}",
            f"FLOPs (multiply-adds, counted once): {node['flops']:,}",
            f"parameters: {node['params']:,}",
            *(f"group #{numbers[name] + 1} {name}" for name in node["groups"] if name in numbers),
            *(f"{t.name}[{axis.dim}]: {axis.role}, {axis.group}" for t in node["tensors"] for axis in t.axes[:8]),
            *(f"kept whole: {reason}" for reason in node["pins"][:4]),
        ]
        whole = len(groups) < len(node["groups"])
        nodes.setdefault(path, []).append(
            SketchNode(key, node["name"], path, operation, "\n".join(facts), groups, whole)
        )
        while path:
            outer = path.rpartition(".")[0]
            modules.setdefault(outer, {})[path] = None
            path = outer
    edges = [
        SketchEdge(source, target, ", ".join("×".join(map(str, shape)) for shape in shapes[:2]))
        for source, target, shapes in graph.edges(data="shapes")
        if source in shown and target in shown
    ]
    return Sketch(
        {path: tuple(inside) for path, inside in nodes.items()},
        {path: tuple(inside) for path, inside in modules.items()},
        tuple(edges),
    )
