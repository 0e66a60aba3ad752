"""How much of the saved FLOPs becomes time: dense against compact models, by back end, batch size and rounding.

    python -m benchmarks.latency --peer --threads 2     # five models beside Torch-Pruning; results/latency.{json,md}
    python -m benchmarks.latency --models resnet56 torchvision:resnet18 --backends eager compile --round-to 1 16

Weights are random; how much each group keeps is --scope's choice (within groups by l2), in widths that are multiples of
--round-to. Norms are folded into convolutions in all models. Dense and compact passes take turns in one process. Shown
are medians with quartiles, ratios pair by pair, and realised over ideal: dense time / compact time over dense FLOPs /
compact FLOPs (multiply-adds counted once). Every model has a fresh process, freed memory is kept while passes run,
and several copies of both models are: what ran before, waiting for pages, and where weights lie change times by a tenth
and more. Torch-Pruning keeps the same share of every group (uniform), with the same rounding and nearly as many FLOPs;
to what it left, atofx cuts once more, with --scope and with the same share of every group.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import torch

import atofx
from atofx.bench import Rounds, all_settings
from atofx.bench.machine import pinned_threads
from atofx.bench.report import BenchReport, Pair, measure
from atofx.bench.text import warnings_of
from atofx.cli import models
from atofx.methods.calibrate import TOLERANCE
from atofx.methods.shares import Scope
from atofx.passes.clean import clean
from benchmarks import record
from benchmarks.peer_cut import cut_by_torch_pruning

MODELS = tuple(
    f"torchvision:{name}" for name in ("resnet50", "vgg16_bn", "densenet121", "mobilenet_v2", "efficientnet_b0")
)
#: Realised over ideal that is wanted: eager by batch size, ONNX Runtime for all.
WANTED = {
    "resnet50": {8: 0.95, 1: 0.8},
    "vgg16_bn": {8: 0.85, 1: 0.85},
    "densenet121": {8: 0.95, 1: 0.65},
    "mobilenet_v2": {8: 0.75, 1: 0.65},
    "efficientnet_b0": {8: 0.8, 1: 0.65},
}
WANTED_ONNX = 0.75
OURS, PEER = "atofx", "torch-pruning"
PACKAGES = {"onnxruntime": ("onnxruntime", "onnxscript")}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--backends", nargs="+", default=["eager", "onnxruntime"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--memory-formats", nargs="+", default=["contiguous", "channels_last"])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--round-to", nargs="+", type=int, default=[16])
    parser.add_argument("--flops", type=float, default=0.5)
    parser.add_argument("--scope", choices=get_args(Scope), default="traffic")
    parser.add_argument("--peer", action="store_true", help="cut by Torch-Pruning too")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--copies", type=int, default=3, help="of both models, each measured so long")
    parser.add_argument("--name", default="latency", help="of the files in benchmarks/results")
    chosen = parser.parse_args()
    found: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        for rows in fresh.imap(_measured, [(chosen, name) for name in chosen.models]):
            found += rows
    packages = [package for backend in chosen.backends for package in PACKAGES.get(backend, ())]
    table = record.markdown(
        (
            "model",
            "cut by",
            "widths",
            "setting",
            "batch",
            "dense ms",
            "compact ms",
            "FLOPs left",
            "times faster",
            "realised",
            "wanted",
        ),
        _rows(found),
    )
    path = record.write(chosen.name, {**record.circumstances(*packages), "measured": found}, table)
    print(f"\n{table}\n{path}")


def _measured(task: tuple[argparse.Namespace, str]) -> list[dict[str, Any]]:
    """One model in all settings."""
    chosen, name = task
    settings = all_settings(
        chosen.backends,
        chosen.batches,
        chosen.memory_formats,
        chosen.dtypes,
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    rounds = Rounds(seconds=chosen.seconds)
    found: list[dict[str, Any]] = []
    with pinned_threads(chosen.threads):
        for round_to in chosen.round_to:
            for tool, scope, pair in _pairs(name, chosen.flops, chosen.scope, round_to, peer=chosen.peer):
                profile_rounds = rounds if tool == OURS else None
                report = measure(pair, settings, rounds, copies=chosen.copies, profile_rounds=profile_rounds)
                found.append({"model": name, "tool": tool, "scope": scope, "round_to": round_to, **_short(report)})
                for row in _rows(found[-1:]):
                    print(*row, sep="  ", flush=True)
                for warning in warnings_of(report):
                    print(f"  {warning}", flush=True)
    return found


def _pairs(name: str, flops: float, scope: Scope, round_to: int, *, peer: bool) -> Iterator[tuple[str, Scope, Pair]]:
    """Dense and compact, by tool and scope."""
    loaded = models.load(name)
    program = atofx.trace(loaded.module, loaded.inputs)
    dense, total = clean(program.module), program.flops()

    def ours(fraction: float, scope: Scope) -> tuple[str, Scope, Pair]:
        mask = atofx.methods.oneshot(program, fraction, "l2", scope=scope, round_to=round_to)
        costs = (total, program.flops(mask)), (program.params(), program.params(mask))
        return OURS, scope, Pair(dense, clean(program.compact(mask)), loaded.inputs, *costs)

    yield ours(flops, scope)
    if peer:
        smaller = cut_by_torch_pruning(loaded.module, loaded.inputs, round(flops * total), round_to)
        traced = atofx.trace(smaller.eval(), loaded.inputs)
        left = traced.flops()
        costs = (total, left), (program.params(), traced.params())
        yield PEER, "uniform", Pair(dense, clean(traced.module), loaded.inputs, *costs)
        missed = abs(left / total - flops) > TOLERANCE * flops
        for other in dict.fromkeys((scope, "uniform")):
            if missed or other != scope:
                yield ours(left / total, other)


def _short(report: BenchReport) -> dict[str, Any]:
    """Without the single samples, and with the ten layers that lose most."""
    data = report.to_dict()
    for row in data["comparisons"]:
        for side in ("dense", "compact"):
            row[side]["passes"] = len(row[side].pop("seconds"))
    data["layers"] = sorted(data["layers"], key=lambda layer: -layer["lost"])[:10]
    return data


def _rows(found: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            one["model"].removeprefix("torchvision:"),
            f"{one['tool']}, {one['scope']}",
            "any" if one["round_to"] == 1 else f"multiples of {one['round_to']}",
            ", ".join(row["setting"][key] for key in ("backend", "dtype", "memory_format")),
            str(row["setting"]["batch"]),
            _spread(row["dense"]["latency"], 1000),
            _spread(row["compact"]["latency"], 1000),
            f"{100 * one['compact']['flops'] / one['dense']['flops']:.1f} %",
            _spread(row["speedup"], 1),
            f"{row['realised']:.2f}",
            _wanted(one["model"].removeprefix("torchvision:"), row["setting"]),
        )
        for one in found
        for row in one["comparisons"]
    ]


def _wanted(model: str, setting: dict[str, Any]) -> str:
    """Realised over ideal that is wanted at half of the FLOPs, if anything is."""
    by_batch = WANTED.get(model, {})
    wanted = by_batch.get(setting["batch"]) if setting["backend"] == "eager" else WANTED_ONNX if by_batch else None
    return "" if wanted is None else f"{wanted:.2f}"


def _spread(spread: dict[str, float], factor: float) -> str:
    lower, median, upper = (factor * spread[key] for key in ("lower", "median", "upper"))
    return f"{median:.2f} ({lower:.2f}-{upper:.2f})"


if __name__ == "__main__":
    main()
