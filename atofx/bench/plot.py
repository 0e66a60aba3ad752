"""Times of both models in every setting as a picture. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from atofx.bench.report import BenchReport

_DENSE, _COMPACT = "tab:gray", "tab:blue"


def plot(report: BenchReport, path: Path, title: str) -> None:
    """Two boxes a setting: quartiles, the median, and whiskers around 9 passes of 10, in milliseconds.

    Args:
        report: what was measured.
        path: of the picture; its ending says the format.
        title: above it.
    """
    count = len(report.comparisons)
    figure = Figure(figsize=(8, 1.5 + 0.9 * count), layout="constrained")
    axes = figure.subplots()
    for offset, color, side in ((0.2, _DENSE, "dense"), (-0.2, _COMPACT, "compact")):
        times = [[1000 * second for second in getattr(c, side).seconds] for c in report.comparisons]
        places = [count - index + offset for index in range(count)]
        boxes = axes.boxplot(times, positions=places, widths=0.3, vert=False, whis=(5, 95), sym="", patch_artist=True)
        for box in boxes["boxes"]:
            box.set_facecolor(color)
        for median in boxes["medians"]:
            median.set_color("black")
    labels = [
        f"{one.setting}\n{one.speedup.median:.2f} times faster, {report.realised(one):.2f} realised"
        for one in report.comparisons
    ]
    axes.set_yticks([count - index for index in range(count)], labels, fontsize="small")
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds of a forward pass")
    axes.set_title(title, fontsize="medium")
    axes.legend(handles=[Patch(color=_DENSE, label="dense"), Patch(color=_COMPACT, label="compact")])
    figure.savefig(path, dpi=150)
