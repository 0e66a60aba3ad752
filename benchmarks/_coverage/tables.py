"""Rows to what is written down: the summary, the table, the reasons why channels are pinned."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import record
from tests.invariants import TOLERANCE

Row = Mapping[str, Any]
OURS = "atofx"


def exact(row: Row) -> bool:
    """Whether compact, gated and zeroed agree and costs are as predicted."""
    return not fault(row)


def fault(row: Row) -> str:
    """What is wrong with a row, empty if nothing is."""
    if row["failure"]:
        return f"{row.get('stage', 'start')}: {row['failure']}"
    if not max(row["error"], row["error_gated"]) <= TOLERANCE:
        return (
            f"off by {max(row['error'], row['error_gated']):.1e} (rounding grows {row['amplification'] or 0:.0e} times)"
        )
    if not row["params_as_counted"]:
        return "parameters are not as predicted"
    if not row["flops_as_counted"]:
        return f"{row['flops_predicted']} FLOPs predicted, {row['flops_counted']} counted"
    return ""


def runs_equal(row: Row) -> bool:
    """Whether a peer pruned something and equals its own zeroed model."""
    return not row["failure"] and row["params_kept"] < 1 and row["error"] <= TOLERANCE


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Per suite and task: how many are exact, and the mean kept share of those; the same for the peers."""
    result: dict[str, Any] = {}
    for tool, good in _tools(rows):
        for name, part in _parts(row for row in rows if row["tool"] == tool):
            sound = [row for row in part if good(row)]
            answered = [row for row in part if row.get("trace_seconds") is not None]
            result.setdefault(tool, {})[name] = {
                "models": len(part),
                "traced": len(answered),
                "exact": len(sound),
                "mean_params_kept": _mean(row["params_kept"] for row in sound),
                "mean_prunable_share": _mean(row["prunable_share"] for row in sound if "prunable_share" in row),
                "not_exact": [row["model"] for row in part if not good(row)],
            }
    return result


def _tools(rows: Iterable[Row]) -> Iterable[tuple[str, Callable[[Row], bool]]]:
    return [(tool, exact if tool == OURS else runs_equal) for tool in dict.fromkeys(row["tool"] for row in rows)]


def _parts(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        suite = row["model"].partition("/")[0]
        parts.setdefault("timm" if suite == "timm" else f"torchvision {row['family']}", []).append(row)
    return list(parts.items())


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(statistics.fmean(found), 4) if found else None


def trace_ratio(rows: Sequence[Row]) -> dict[str, Any]:
    """Trace time of torchvision classifiers beside Torch-Pruning's, where both answer."""
    seconds: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["model"].startswith("torchvision/") and row["family"] == "classification" and row.get("trace_seconds"):
            seconds.setdefault(row["model"], {})[row["tool"]] = row["trace_seconds"]
    ratios = {
        model: round(both[OURS] / both["torch_pruning"], 3)
        for model, both in seconds.items()
        if {OURS, "torch_pruning"} <= both.keys()
    }
    if not ratios:
        return {}
    slowest = max(ratios, key=lambda model: ratios[model])
    return {
        "models": len(ratios),
        "median": round(statistics.median(ratios.values()), 3),
        "largest": {slowest: ratios[slowest]},
        "above_one": sorted(model for model, ratio in ratios.items() if ratio > 1),
    }


def reasons(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Every reason for a pin that was seen: in how many models and groups, on how many parameters, and one place."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        for text, entry in row.get("reasons", {}).items():
            total = found.setdefault(text, {"reason": text, "models": 0, "groups": 0, "elements": 0, "largest": 0})
            total["models"] += 1
            total["groups"] += entry["groups"]
            total["elements"] += entry["elements"]
            if entry["elements"] >= total["largest"]:
                total["largest"], total["place"] = entry["elements"], f"{row['model']}: {entry['place']}"
    ordered = sorted(found.values(), key=lambda entry: (-entry["models"], -entry["elements"]))
    return [{key: value for key, value in entry.items() if key != "largest"} for entry in ordered]


def markdown(rows: Sequence[Row]) -> str:
    """The page: totals, one line a model, reasons."""
    ours = [row for row in rows if row["tool"] == OURS]
    peers = {(row["tool"], row["model"]): row for row in rows if row["tool"] != OURS}
    tools = list(dict.fromkeys(tool for tool, _ in peers))
    totals = [
        (tool, name, s["models"], s["traced"], s["exact"], _percent(s["mean_params_kept"]))
        for tool, parts in summary(rows).items()
        for name, s in parts.items()
    ]
    header = ("model", "check input", "front end", "groups", "prunable %", "kept %", "error", "trace s", "GiB", *tools)
    lines = [(*_line(row), *(_verdict(peers.get((tool, row["model"]))) for tool in tools)) for row in ours]
    why = [(r["reason"].replace("|", "\\|"), r["models"], r["groups"], f"`{r['place']}`") for r in reasons(ours)]
    faults = [(row["model"], fault(row).replace("|", "\\|")) for row in ours if fault(row)]
    return (
        "# Coverage\n\n"
        "Random weights and norm statistics, float64, half of every group dropped. *Exact*: compact, gated and the\n"
        "user's own model with its producers zeroed agree to 1e-9; parameters and FLOPs (multiply-adds counted once)\n"
        "are as predicted. A peer is exact if it equals its own zeroed model. Trace seconds are at the native size,\n"
        "beside whatever else the machine did: `benchmarks/results/trace_speed_every.md` compares times.\n\n"
        + record.markdown(("tool", "suite", "models", "groups found", "exact", "kept %"), totals)
        + ("\n## Not exact\n\n" + record.markdown(("model", "what happened"), faults) if faults else "")
        + "\n## Models\n\n"
        + record.markdown(header, lines)
        + "\n## Why channels are pinned\n\n"
        + record.markdown(("reason", "models", "groups", "for example"), why)
    )


def _line(row: Row) -> tuple[Any, ...]:
    groups = f"{row['prunable_groups']} of {row['groups']}" if "groups" in row else "-"
    return (
        row["model"],
        "x".join(map(str, row.get("check", "-"))),
        row.get("frontend", "-"),
        groups,
        _percent(row.get("prunable_share")),
        _percent(row.get("params_kept")),
        f"{row['error']:.0e}" if "error" in row else "-",
        f"{row['trace_seconds']:.2f}" if "trace_seconds" in row else "-",
        row.get("peak_gib", "-"),
    )


def _verdict(row: Row | None) -> str:
    if row is None:
        return "-"
    if row["failure"]:
        return f"fails ({row.get('stage', 'start')})"
    if row["params_kept"] == 1:
        return "prunes nothing"
    return f"exact, {row['params_kept']:.0%}" if runs_equal(row) else f"off by {row['error']:.0e}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
