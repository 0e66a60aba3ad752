"""Times of both models in every setting as a picture. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from atofx.bench.report import BenchReport


def plot(report: BenchReport, path: Path, title: str) -> None:
    """Two bars a setting: median milliseconds of a forward pass, with a line from the first to the third quartile.

    Args:
        report: what was measured.
        path: of the picture; its ending says the format.
        title: above it.
    """
    count = len(report.comparisons)
    figure = Figure(figsize=(8, 1.5 + 0.9 * count), layout="constrained")
    axes = figure.subplots()
    for offset, color, side in ((0.2, "tab:gray", "dense"), (-0.2, "tab:blue", "compact")):
        spreads = [getattr(one, side).latency for one in report.comparisons]
        medians = [1000 * spread.median for spread in spreads]
        below = [1000 * (spread.median - spread.lower) for spread in spreads]
        above = [1000 * (spread.upper - spread.median) for spread in spreads]
        places = [count - index + offset for index in range(count)]
        axes.barh(places, medians, height=0.35, xerr=[below, above], capsize=3, color=color, label=side)
    labels = [
        f"{one.setting}\n{one.speedup.median:.2f} times faster, {report.realised(one):.2f} realised"
        for one in report.comparisons
    ]
    axes.set_yticks([count - index for index in range(count)], labels, fontsize="small")
    axes.set_xlabel("milliseconds of a forward pass")
    axes.set_title(title, fontsize="medium")
    axes.legend()
    figure.savefig(path, dpi=150)
