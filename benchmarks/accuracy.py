"""How accurate are networks that were trained and shrunk at once, beside dense ones trained equally long?

    python -m benchmarks.accuracy digits                                # ResNet-20, 30 epochs, 3 seeds
    python -m benchmarks.accuracy cifar10 --data folder:PATH            # ResNet-20, 40 epochs, bf16, 1 seed

Every method runs with the same recipe: dense, ATO, and uniform l2 (train, cut once, train on), these two at half of the
FLOPs. On CIFAR-10, ATO keeps the groups of the last stage whole. FLOPs are fused multiply-adds counted once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from tempfile import mkdtemp
from typing import Any

from atofx.train import run
from atofx.train.recipes import load_config
from benchmarks.record import circumstances, markdown, write

FLOPS = 0.5
CIFAR = {
    "model": "resnet20",
    "epochs": 40,
    "batch_size": 128,
    "lr": 0.1,
    "weight_decay": 5e-4,
    "warmup_epochs": 2,
    "precision": "bf16",
    "channels_last": True,
    "threads": None,
    "eval_every": 4,
}
#: The last stage of ResNet-20 holds three quarters of the parameters for a third of the FLOPs.
CIFAR_ATO = {"per_group": {"layer3.*": {"min_keep": 1.0}}}


def main() -> None:
    """Train, collect, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("digits", "cifar10"))
    parser.add_argument("--data", help="for cifar10: folder:PATH in the ImageNet layout")
    parser.add_argument("--epochs", type=int, help="instead of the task's own number")
    parser.add_argument("--seeds", type=int, help="how many, from 0: 3 for digits, 1 for cifar10")
    parser.add_argument("--methods", default="none,ato,l2", help="comma-separated; none is dense")
    parser.add_argument("--threads", type=int, help="threads to compute with")
    parser.add_argument("--runs", type=Path, help="keep the run folders here; a run that was interrupted there goes on")
    arguments = parser.parse_args()
    if (arguments.task == "cifar10") != (arguments.data is not None):
        parser.error("cifar10 needs --data folder:PATH, digits brings its own data")
    overrides: dict[str, Any] = {"data": arguments.data, **CIFAR} if arguments.task == "cifar10" else {}
    if arguments.epochs:
        overrides["epochs"] = arguments.epochs
    if arguments.threads:
        overrides["threads"] = arguments.threads
    seeds = arguments.seeds or (3 if arguments.task == "digits" else 1)
    folder = arguments.runs or Path(mkdtemp())
    runs = [
        one_run(arguments.task, method, seed, overrides, folder)
        for seed in range(seeds)
        for method in arguments.methods.split(",")
    ]
    write(f"accuracy_{arguments.task}", {**circumstances(), "flops_target": FLOPS, "runs": runs}, table(runs))


def one_run(task: str, method: str, seed: int, overrides: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train once; the figures and the curve of test accuracy."""
    out = folder / f"{task}-{method}-{seed}"
    if (task, method) == ("cifar10", "ato"):
        overrides = overrides | CIFAR_ATO
    options = overrides | {"method": method, "seed": seed, "out": str(out), "resume": out.exists()}
    config = load_config(None, options | ({} if method == "none" else {"flops": FLOPS}))
    result = run(config)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    tested = [(r["epoch"], r.get("masked_top1", r.get("top1"))) for r in records if r["kind"] == "epoch"]
    curve = {epoch: round(top1, 2) for epoch, top1 in tested if top1 is not None}
    return {
        "method": "dense" if method == "none" else method,
        "seed": seed,
        "epochs": config.epochs,
        "top1": round(result.compact_top1, 2),
        "agreement": result.agreement,
        "flops": result.flops_compact / result.flops_dense,
        "params": result.params_compact / result.params_dense,
        "seconds": round(result.seconds, 1),
        "curve": curve,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """A row a method: mean over seeds."""
    rows = []
    for method in dict.fromkeys(r["method"] for r in runs):
        mine = [r for r in runs if r["method"] == method]
        rows.append(
            (
                method,
                f"{mean(r['top1'] for r in mine):.2f} %",
                ", ".join(f"{r['top1']:.2f}" for r in mine),
                f"{100 * mean(r['flops'] for r in mine):.1f} %",
                f"{100 * mean(r['params'] for r in mine):.1f} %",
                f"{mean(r['agreement'] for r in mine):.0f} %",
                f"{mean(r['seconds'] for r in mine):.0f}",
            )
        )
    header = ("method", "top-1", "per seed", "FLOPs kept", "parameters kept", "masked = compact", "seconds a run")
    return markdown(header, rows)


if __name__ == "__main__":
    main()
