"""Program -> text, for terminals and log files. Needs ``rich`` (the ``[train]`` extra)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import Box
from rich.console import Console
from rich.table import Table

from atofx.passes.verify import VerifyReport
from atofx.report.overview import GroupRow, Overview

_WIDTH = 120
# Columns under a ruled head, in ASCII: the text may end up in a file of any encoding.
_RULED = Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)


def quantity(value: float) -> str:
    """``41034752`` as ``"41.03 M"``: three or four digits and a factor of a thousand."""
    for factor, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f} {sign}"
    return f"{value:.0f}"


def percent(part: float, whole: float) -> str:
    """``part`` of ``whole`` as ``"12.3 %"``; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def counted(number: int, noun: str) -> str:
    """``"1 group"``, ``"12 groups"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> str:
    """Aligned columns under a rule; those in ``left`` to the left, numbers to the right. Long cells wrap."""
    grid = Table(box=_RULED, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(cell.replace("[", "\\[") for cell in row))
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def overview_text(view: Overview, title: str, *, axes: bool = False) -> str:
    """The page of ``atofx inspect``: totals, prunable groups, pinned groups, operations that pin.

    Args:
        view: of the program.
        title: first line.
        axes: list every axis of every group as well.
    """
    units = sum(row.units for row in view.prunable)
    head = (
        f"{title}: {quantity(view.flops)} FLOPs (fused multiply-adds, counted once), "
        f"{quantity(view.params)} parameters.\n"
        f"{counted(len(view.prunable), 'prunable group')} with {counted(units, 'unit')}. "
        "One unit left in each would leave "
        f"{percent(view.least_flops, view.flops)} of the FLOPs "
        f"and {percent(view.least_params, view.params)} of the parameters.\n"
        f"Front end: {view.frontend} ({view.frontend_reason})."
    )
    if view.regions:
        head += f"\nTraced regions: {', '.join(view.regions)}; FLOPs are those of the regions."
    return "\n\n".join([head, *_sections(view, axes=axes)])


def _sections(view: Overview, *, axes: bool) -> list[str]:
    sections = []
    if view.prunable:
        sections.append(_prunable(view.prunable))
    pinned = [row for row in view.groups if not row.prunable]
    if pinned:
        rows = [(_first_axis(row), str(row.units), row.reason or "") for row in pinned]
        sections.append("Pinned, so kept whole:\n\n" + table(("axes", "units", "why"), rows, left=(0, 2)))
    if view.pins:
        rows = [(pin.op, pin.place, pin.reason) for pin in view.pins]
        sections.append(
            "Operations without a record, which keep whole what reaches them:\n\n"
            + table(("op", "place", "why"), rows, left=(0, 1, 2))
        )
    if axes:
        sections += [_axes(row) for row in view.groups]
    return sections


def _prunable(rows: Sequence[GroupRow]) -> str:
    cells = [
        (
            row.name,
            str(row.units),
            str(row.channels),
            f"{100 * row.flops_share:.1f} %" if row.flops_share is not None else "-",
            str(len(row.producers)),
            str(len(row.consumers)),
        )
        for row in rows
    ]
    note = (
        "A layer between two groups counts for both: the shares can add up to more than 100 %. Axes zeroed are of the "
        "parameters that make the channels, axes cut of those that read them."
    )
    columns = ("group", "units", "channels", "FLOPs share", "axes zeroed", "axes cut")
    return f"{table(columns, cells)}\n\n{note}"


def _first_axis(row: GroupRow) -> str:
    axes = (*row.producers, *row.consumers)
    more = len(axes) - 1
    return axes[0] + (f" and {more} more" if more else "")


def _axes(row: GroupRow) -> str:
    lines = [f"{row.name} ({counted(row.units, 'unit')}{'' if row.prunable else ', kept whole'})"]
    lines += [f"  zeroed  {axis}" for axis in row.producers]
    lines += [f"  cut     {axis}" for axis in row.consumers]
    return "\n".join(lines)


def comparison(rows: Sequence[tuple[str, float, float]]) -> str:
    """Before and after: ``(quantity, dense, compact)`` rows with the part that is left."""
    cells = [(name, quantity(dense), quantity(small), percent(small, dense)) for name, dense, small in rows]
    return table(("", "dense", "compact", "left"), cells)


def verify_text(report: VerifyReport, title: str) -> str:
    """The page of ``atofx verify``: largest error, and counts as predicted and as counted on the compact model."""
    counts = (
        ("FLOPs", report.flops_predicted, report.flops_counted),
        ("parameters", report.params_predicted, report.params_counted),
    )
    cells = [
        (name, f"{predicted:,}", f"{counted:,}", "equal" if predicted == counted else "DIFFERENT")
        for name, predicted, counted in counts
    ]
    verdict = (
        "The compact model computes the same function." if report.ok else "NOT the same model: please report this."
    )
    return "\n\n".join(
        [
            title,
            table(("", "predicted", "counted", ""), cells, left=(0, 3)),
            f"Largest relative error between compact and masked model, in float64: {report.error:.1e}.\n{verdict}",
        ]
    )


def prune_text(result: Mapping[str, Any], title: str, out: Path) -> str:
    """The page of ``atofx prune``: dense and compact side by side, and where the files are."""
    rows = [
        ("units", result["units"], result["units_kept"]),
        ("FLOPs", result["flops_dense"], result["flops_compact"]),
        ("parameters", result["params_dense"], result["params_compact"]),
    ]
    check = "The compact model computes" if result["ok"] else "WARNING: the compact model does NOT compute"
    close = (
        f"{check} what the big one computes without the dropped units "
        f"(largest relative error in float64: {result['error']:.1e}).\n"
        f"{_latency(result)}{_accuracy(result)}Written to {out}."
    )
    return "\n\n".join([f"{title}, pruned by {result['criterion']}", comparison(rows), close])


def compact_text(result: Mapping[str, Any], title: str, out: Path) -> str:
    """The page of ``atofx compact``: what is zero, dense and compact side by side, and where the files are."""
    found = [row for row in result["groups"] if row["zero"]]
    rows = [(r["name"], f"{r['units']:,}", f"{r['zero']:,}", percent(r["zero"], r["units"])) for r in found]
    whole = len(result["groups"]) - len(found)
    more = f"\n\n{counted(whole, 'other prunable group')}: nothing is zero." if whole else ""
    costs = [
        ("units", result["units"], result["units_kept"]),
        ("FLOPs", result["flops_dense"], result["flops_compact"]),
        ("parameters", result["params_dense"], result["params_compact"]),
    ]
    check = "The compact model computes" if result["ok"] else "WARNING: the compact model does NOT compute"
    close = (
        f"{check} what the checkpoint computes (largest relative error in float64: {result['error']:.1e}).\n"
        f"Written to {out}. FLOPs are fused multiply-adds, counted once."
    )
    head = f"{title}, zero units in {result['checkpoint']}"
    return "\n\n".join([head, table(("group", "units", "zero", "share"), rows) + more, comparison(costs), close])


def _latency(result: Mapping[str, Any]) -> str:
    if "latency" not in result:
        return ""
    found = result["latency"]
    lower, median, upper, wanted = (f"{100 * found[name]:.1f} %" for name in ("lower", "median", "upper", "wanted"))
    return (
        f"It takes {median} of the dense model's time here ({lower} to {upper}; wanted: {wanted}; {found['backend']}, "
        "norms folded in both).\n"
    )


def _accuracy(result: Mapping[str, Any]) -> str:
    if "data" not in result:
        return ""
    tuned = ""
    if result["finetune_epochs"]:
        tuned = f", {result['compact_top1']:.2f} % after {counted(result['finetune_epochs'], 'epoch')} of fine-tuning"
    return (
        f"Top-1 on the test images of {result['data']}: {result['dense_top1']:.2f} % dense, "
        f"{result['pruned_top1']:.2f} % pruned{tuned}.\n"
    )
