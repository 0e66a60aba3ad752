"""Is a latency target met? Masks for shares of the dense model's time, measured again after they were found.

    python -m benchmarks.latency_target [--shares 0.5 0.7] [--threads 2]    # results/latency_target.{json,md}

What `atofx prune --latency` does, and then a measurement of its own of the pair it has found (`atofx bench`).
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import atofx
from atofx.bench import Rounds, Setting, compare
from atofx.bench.latency_target import TOLERANCE, fit_latency
from atofx.bench.machine import pinned_threads
from atofx.cli import models
from atofx.methods import oneshot
from atofx.passes.clean import clean
from benchmarks import record

MODELS = ("torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:vgg11_bn")


def main() -> None:
    """Fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 0.7])
    parser.add_argument("--round-to", type=int, default=16)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    rows = []
    with pinned_threads(chosen.threads):
        for name in chosen.models:
            for share in chosen.shares:
                rows.append(one(name, share, chosen.round_to))
                print(rows[-1], flush=True)
    header = (
        "model",
        "wanted",
        "FLOPs kept",
        "share of the time when found",
        "measured again (quartiles)",
        "within 5 %",
    )
    cells = [
        (
            row["model"].removeprefix("torchvision:"),
            f"{row['wanted']:.2f}",
            f"{row['flops']:.3f}",
            f"{row['found']:.3f}",
            f"{row['again'][1]:.3f} ({row['again'][0]:.3f}-{row['again'][2]:.3f})",
            "yes" if row["met"] else "no",
        )
        for row in rows
    ]
    result = {**record.circumstances("torchvision"), "rows": rows}
    print(record.write("latency_target", result, record.markdown(header, cells)))


def one(name: str, share: float, round_to: int) -> dict[str, Any]:
    """One model, one target; eager mode, batch 1."""
    loaded = models.load(name)
    program = atofx.trace(loaded.module, loaded.inputs)
    mask_at = partial(oneshot, program, criterion="l2", scope="uniform", round_to=round_to)
    fit = fit_latency(program, share, mask_at, Setting())
    pair = clean(program.module), clean(program.compact(fit.mask))
    again = compare(*pair, loaded.inputs, Setting(), Rounds(seconds=5.0))
    lower, median, upper = (1 / value for value in (again.speedup.upper, again.speedup.median, again.speedup.lower))
    return {
        "model": name,
        "wanted": share,
        "flops": program.flops(fit.mask) / program.flops(),
        "found": fit.share.median,
        "again": [lower, median, upper],
        "met": abs(median / share - 1) <= TOLERANCE,
    }


if __name__ == "__main__":
    main()
