"""Analysis -> text: what is coupled, what stays whole and why."""

from __future__ import annotations

from collections import Counter

import torch

from atofx.ir.analysis import Analysis
from atofx.ir.groups import Group
from atofx.passes.advice import advice
from atofx.passes.merge import TracedRegions
from atofx.passes.trace import Traced


def explain(analysis: Analysis, traced: Traced, name: str) -> str:
    """The axes of a parameter or buffer: their groups, or why they stay whole and what would help."""
    tensor = traced.tensors[name]
    canonical = analysis.lineage.tensor_names[name]
    lines = [f"{name}: shape {tuple(tensor.shape)}"]
    if canonical != name:
        lines.append(f"  tied to {canonical}")
    if name in traced.unused:
        return "\n".join([*lines, "  not used by the traced graph: it is left out of the compact model"])
    if tensor.dim() == 0:
        return "\n".join([*lines, "  a scalar has no channel axis"])
    for dim in range(tensor.dim()):
        lines.extend(f"  dim {dim}: {text}" for text in _axis(analysis, canonical, dim, tensor.shape[dim]))
    lines.extend(f"  its layer reads what {why}{advice(why)}" for why in _entering(traced, name))
    lines.extend(f"  {where}: {why}{advice(why)}" for where, why in _unrecorded(analysis, traced, canonical))
    return "\n".join(lines)


def _unrecorded(analysis: Analysis, traced: Traced, name: str) -> list[tuple[str, str]]:
    """Operations without a record that read a tensor, or make what its layer reads: where, and what that means."""
    unknown = {pin.node: pin for pin in analysis.lineage.pins if pin.unknown_op}
    canonical, owner = analysis.lineage.tensor_names, name.rpartition(".")[0]
    found: dict[tuple[str, str], None] = {}
    for node in traced.graph.nodes if unknown else ():
        target = str(node.target)
        if node.op == "get_attr" and canonical.get(target) == name:
            readers = [unknown[user.name] for user in node.users if user.name in unknown]
            found |= {(f"read by {pin.op}", pin.reason): None for pin in readers}
        elif node.op == "call_module" and target == owner:
            makers = [unknown[read.name] for read in node.all_input_nodes if read.name in unknown]
            found |= {(f"its layer reads what {pin.op} makes", pin.reason): None for pin in makers}
    return list(found)


def _entering(traced: Traced, name: str) -> list[str]:
    """Why what the layer of a tensor reads keeps its shape, where that is given to a region."""
    owner = name.rpartition(".")[0]
    layers = [n for n in traced.graph.nodes if n.op == "call_module" and n.target == owner]
    return list(dict.fromkeys(why for node in layers if (why := traced.entering(node))))


def _axis(analysis: Analysis, name: str, dim: int, size: int) -> list[str]:
    axis = analysis.lineage.leaves.get((name, dim))
    if size == 1:
        return ["length 1, nothing to prune"]
    if axis is None:
        return ["not a channel axis"]
    indices = analysis.group_of[axis.start : axis.start + axis.size]
    found = [int(i) for i in torch.unique(indices) if i >= 0]
    if not found:
        return ["not a channel axis"]
    lines = []
    whole: Counter[str] = Counter()
    for index in found:
        group = analysis.groups[index]
        role = next(m.role for m in group.members if m.name == name and m.dim == dim)
        held = int((indices == index).sum())
        if group.prunable:
            others = [f"{m.name}[{m.dim}]" for m in group.members if (m.name, m.dim) != (name, dim)]
            more = f", with {', '.join(others[:6])}{', …' if len(others) > 6 else ''}" if others else ""
            lines.append(f"{held} of {size} coordinates in group {group.name!r} ({group.size} units), {role}{more}")
        else:
            whole[group.reason or ""] += held
    return [*lines, *(f"{held} of {size} coordinates stay whole: {w}{advice(w)}" for w, held in whole.items())]


def summarize(analysis: Analysis, traced: Traced, flops: int, params: int) -> str:
    """A table of the groups, then what stays whole, grouped by reason."""
    prunable = [g for g in analysis.groups if g.prunable]
    units = sum(g.size for g in prunable)
    lines = [
        (
            f"{type(analysis.module).__name__}: {units} prunable units in {len(prunable)} groups; "
            f"{flops:,} FLOPs (multiply-adds), {params:,} parameters"
        ),
        f"captured by {traced.capture}",
        f"{'group':40} {'units':>6} {'axes':>5}  first axes",
    ]
    for group in prunable:
        axes = ", ".join(f"{m.name}[{m.dim}]" for m in group.members[:3])
        more = ", …" if len(group.members) > 3 else ""
        lines.append(f"{group.name:40} {group.size:6} {len(group.members):5}  {axes}{more}")
    if isinstance(traced, TracedRegions):
        count = len(traced.plan.regions)
        lines.insert(1, f"traced in {count} regions: {', '.join(traced.plan.regions)}; FLOPs are those of the regions")
    pinned = [g for g in analysis.groups if not g.prunable]
    if pinned:
        lines.append("kept whole:")
        lines.extend(f"  {_place(group)}: {group.reason}" for group in pinned)
    unknown = Counter((p.op, p.node) for p in analysis.lineage.pins if p.unknown_op)
    if unknown:
        lines.append("operations without a record (register them with atofx.register_op):")
        lines.extend(f"  {op} at {node}" for op, node in unknown)
    if traced.unused:
        lines.append(f"not used by the traced graph: {', '.join(traced.unused)}")
    return "\n".join(lines)


def _place(group: Group) -> str:
    member = group.members[0]
    more = f" and {len(group.members) - 1} more axes" if len(group.members) > 1 else ""
    return f"{member.name}[{member.dim}]{more}"
