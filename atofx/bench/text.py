"""A measurement as text. Needs ``rich`` (the ``[train]`` extra)."""

from __future__ import annotations

from atofx.bench.compare import Comparison
from atofx.bench.layers import LayerTime
from atofx.bench.machine import Machine
from atofx.bench.report import BenchReport
from atofx.bench.spread import Spread
from atofx.report.text import comparison, counted, percent, quantity, table

#: Largest relative difference from an eager float32 pass at which a float32 back end still counts as right.
_DEVIATION = 1e-3


def bench_text(report: BenchReport, title: str, *, most_layers: int = 8) -> str:
    """The page of ``atofx bench``: the machine, amounts, times, memory, and the layers that lose most.

    Args:
        report: what was measured.
        title: first line.
        most_layers: to show.
    """
    amounts = (
        ("FLOPs", report.dense.flops, report.compact.flops),
        ("parameters", report.dense.params, report.compact.params),
        ("bytes in a file", report.dense.file_bytes, report.compact.file_bytes),
    )
    sections = [
        f"{title}\n{_machine(report.machine)}",
        comparison(amounts),
        _times(report),
        _amounts(report),
    ]
    if report.layers and most_layers:
        sections.append(_layers(report, most_layers))
    return "\n\n".join(sections)


def warnings_of(report: BenchReport) -> list[str]:
    """What a user should know before believing or using the numbers, one line each."""
    found = []
    if report.machine.busy:
        found.append(
            f"the machine is busy (load {report.machine.load:.1f} on {counted(report.machine.cores, 'core')}): times "
            "are longer than they need be, and ratios uncertain"
        )
    for one in report.comparisons:
        if not one.pays:
            found.append(
                f"the mask does not pay in the setting {one.setting}: at the median, compact takes "
                f"{1 / one.speedup.median:.2f} times as long as dense (quartiles {1 / one.speedup.upper:.2f} to "
                f"{1 / one.speedup.lower:.2f}); try widths in multiples of 8 or 16 (--round-to), or a smaller mask"
            )
        deviation = max(one.dense.deviation, one.compact.deviation)
        if one.setting.dtype == "float32" and deviation > _DEVIATION:
            found.append(
                f"in the setting {one.setting}, results differ by {deviation:.1e} (relative) from eager float32"
            )
    return found


def _machine(machine: Machine) -> str:
    load = "" if machine.load is None else f", load {machine.load:.1f} before"
    cores = f" ({counted(machine.cores, 'core')})" if machine.device == "cpu" else ""
    return f"{machine.processor}{cores}, {counted(machine.threads, 'CPU thread')}, torch {machine.torch}{load}"


def _times(report: BenchReport) -> str:
    rows = [
        (
            *_setting(one),
            _milliseconds(one.dense.latency),
            _milliseconds(one.compact.latency),
            _range(one.speedup),
            f"{report.realised(one):.2f}",
        )
        for one in report.comparisons
    ]
    columns = ("setting", "batch", "dense ms", "compact ms", "times faster", "realised")
    passes = sorted({len(one.dense.seconds) for one in report.comparisons})
    counts = str(passes[0]) if len(passes) == 1 else f"{passes[0]} to {passes[-1]}"
    note = (
        f"Median (quartiles) of {counts} passes of each, in turn; ratios pair by pair.\n"
        "Realised: times faster, over dense FLOPs / compact FLOPs (multiply-adds counted once); 1.00 is all they say."
    )
    return f"{table(columns, rows)}\n\n{note}"


def _amounts(report: BenchReport) -> str:
    rows = [
        (
            *_setting(one),
            *(quantity(side.throughput) for side in (one.dense, one.compact)),
            *(_bytes(side.peak) for side in (one.dense, one.compact)),
            *(_bytes(side.moved) for side in (one.dense, one.compact)),
        )
        for one in report.comparisons
    ]
    columns = ("setting", "batch", "dense/s", "compact/s", "dense peak", "compact", "dense moved", "compact")
    where = "held by PyTorch's allocator" if report.machine.device == "cuda" else "of results alive in an eager pass"
    note = (
        f"/s: inputs a second. Peak: most bytes {where}, on top of weights and inputs.\n"
        "Moved: bytes that the operations of an eager pass read and write."
    )
    return f"{table(columns, rows)}\n\n{note}"


def _layers(report: BenchReport, most: int) -> str:
    left = report.flops_left
    ranked = sorted(report.layers, key=lambda layer: layer.lost(left), reverse=True)
    shown, rest = ranked[:most], ranked[most:]
    rows = [_layer(layer.name, layer.kind, [layer], left) for layer in shown]
    if rest:
        rows.append(_layer(f"(the other {len(rest)})", "", rest, left))
    rows.append(_layer("(all)", "", ranked, left))
    columns = ("layer", "kind", "dense us", "compact us", "left", "lost us")
    head = f"Where the rest goes, layer by layer in eager mode ({counted(len(ranked) - 1, 'layer')}):"
    note = (
        f"Lost: compact - {left:.3f} x dense, the time beyond what the FLOPs promise.\n"
        "Looking at the clock around every layer adds to the time between layers."
    )
    return f"{head}\n\n{table(columns, rows, left=(0, 1))}\n\n{note}"


def _layer(name: str, kind: str, layers: list[LayerTime], left: float) -> tuple[str, ...]:
    dense, compact = sum(layer.dense for layer in layers), sum(layer.compact for layer in layers)
    lost = sum(layer.lost(left) for layer in layers)
    return (name, kind, f"{1e6 * dense:,.0f}", f"{1e6 * compact:,.0f}", percent(compact, dense), f"{1e6 * lost:,.0f}")


def _setting(one: Comparison) -> tuple[str, str]:
    setting = one.setting
    return f"{setting.backend}, {setting.dtype}, {setting.memory_format}", str(setting.batch)


def _milliseconds(spread: Spread) -> str:
    return _range(Spread(1000 * spread.lower, 1000 * spread.median, 1000 * spread.upper))


def _range(spread: Spread) -> str:
    digits = 3 if spread.median < 1 else 2 if spread.median < 100 else 1
    return f"{spread.median:.{digits}f} ({spread.lower:.{digits}f}-{spread.upper:.{digits}f})"


def _bytes(number: int) -> str:
    return f"{quantity(number)}B" if number >= 1000 else f"{number} B"
