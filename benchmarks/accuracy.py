"""How accurate are networks that were pruned while they trained, beside dense ones trained equally long?

    python -m benchmarks.accuracy digits                          # ResNet-20, 30 epochs, 3 seeds, every method
    python -m benchmarks.accuracy digits-vgg16                    # VGG16-BN, 6 epochs, bf16, the same
    python -m benchmarks.accuracy cifar10 --data folder:PATH      # ResNet-20, 40 epochs, bf16: dense, ATO and l2
    python -m benchmarks.accuracy cifar10-taught --data folder:PATH  # the same three; two learn from the dense one
    python -m benchmarks.accuracy cifar10-20 --data folder:PATH   # ResNet-20, 20 epochs, bf16, every method

All methods of a task have its recipe and end at half of the FLOPs (fused multiply-adds counted once); the one-shot
criteria train dense, cut once, and train on. In the task cifar10, ATO keeps the groups of the last stage whole.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from tempfile import mkdtemp
from types import MappingProxyType
from typing import Any

from atofx.train.comparison import Compared, run_methods
from atofx.train.config import TrainConfig
from atofx.train.recipes import load_config
from benchmarks.record import RESULTS, circumstances, markdown, write

FLOPS = 0.5
DENSE = "none"
METHODS = (DENSE, "ato", "hspg", "dhspg", "hesso", "scratch", "tas", "l2", "bn-scale", "taylor", "random")
CIFAR = MappingProxyType(
    {
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
)
VGG16 = MappingProxyType(
    {
        "model": "vgg16_bn",
        "epochs": 6,
        "batch_size": 32,
        "image_size": 32,
        "optimizer": "adamw",
        "lr": 0.001,
        "weight_decay": 0.01,
        "precision": "bf16",
        "channels_last": True,
    }
)
#: The last stage of ResNet-20 holds three quarters of the parameters for a third of the FLOPs.
LAST_STAGE_WHOLE = MappingProxyType({"per_group": {"layer3.*": {"min_keep": 1.0}}})


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        methods: compared unless others are asked for.
        seeds: how many, from 0.
        options: of the configuration, for all methods.
        own: further options of single methods.
        needs_data: whether the images come from a folder of the user's.
        taught: whether all others learn from the dense network of the same seed, too (``--distill``).
        plain_epochs: of plain training before each run, to compare its speed with; without them it is compared with
            the dense run. In hours a machine's speed drifts by more than most methods cost.
    """

    methods: Sequence[str] = METHODS
    seeds: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs_data: bool = False
    taught: bool = False
    plain_epochs: int = 0


CIFAR_40 = Task((DENSE, "ato", "l2"), 1, CIFAR, MappingProxyType({"ato": LAST_STAGE_WHOLE}), needs_data=True)
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "digits": Task(),
        "digits-vgg16": Task(options=VGG16),
        "cifar10": CIFAR_40,
        "cifar10-taught": replace(CIFAR_40, taught=True),
        "cifar10-20": Task(seeds=1, options={**CIFAR, "epochs": 20}, needs_data=True, plain_epochs=1),
    }
)


def main() -> None:
    """Train, collect, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", help="for cifar10: folder:PATH in the ImageNet layout")
    parser.add_argument("--epochs", type=int, help="instead of the task's own number")
    parser.add_argument("--seeds", type=int, help="how many, from 0, instead of the task's own number")
    parser.add_argument("--methods", help="comma-separated, instead of the task's own; none is dense")
    parser.add_argument("--threads", type=int, help="threads to compute with")
    parser.add_argument("--runs", type=Path, help="keep the run folders here; finished ones are not run again")
    parser.add_argument("--add", action="store_true", help="keep the result file's rows, do not run them again")
    arguments = parser.parse_args()
    task = TASKS[arguments.task]
    if task.needs_data != (arguments.data is not None):
        parser.error("cifar10 needs --data folder:PATH, digits brings its own data")
    given = {name: getattr(arguments, name) for name in ("data", "epochs", "threads") if getattr(arguments, name)}
    methods = task.methods if arguments.methods is None else arguments.methods.split(",")
    folder = arguments.runs or Path(mkdtemp())
    wanted = []
    for seed in range(arguments.seeds or task.seeds):
        runs = folder / f"{arguments.task}-{seed}"
        wanted += [(configuration(task, method, seed, given, runs), runs) for method in methods]
    path = RESULTS / f"accuracy_{arguments.task.replace('-', '_')}.json"
    earlier = json.loads(path.read_text()) if arguments.add and path.exists() else {"runs": []}
    rows = {(row["method"], row["seed"]): row for row in earlier["runs"]}
    if {row["epochs"] for row in rows.values()} - {config.epochs for config, _ in wanted}:
        parser.error(f"--add: {path} holds runs of another number of epochs")
    about = {**earlier, **circumstances(), "command": _command(arguments.data, arguments.runs), "flops_target": FLOPS}
    for config, runs in wanted:
        key = _label(config.method), config.seed
        if key not in rows:
            rows[key] = one_run(config, task.plain_epochs, runs)
            ordered = sorted(rows.values(), key=_place)
            write(path.stem, {**about, "runs": ordered}, table(ordered))


def _label(method: str) -> str:
    return "dense" if method == DENSE else method


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    known = ("dense", *METHODS[1:])
    return known.index(row["method"]) if row["method"] in known else len(known), row["seed"]


def _command(data: str | None, runs: Path | None) -> str:
    """The command with no paths of this machine."""
    said = str(circumstances()["command"])
    for path, word in ((data, "folder:PATH"), (runs, "DIR")):
        said = said.replace(str(path), word) if path else said
    return said


def configuration(task: Task, method: str, seed: int, given: Mapping[str, Any], folder: Path) -> TrainConfig:
    """What ``method`` is trained with in ``task``; ``folder`` holds the runs of this seed."""
    target = {} if method == DENSE else {"flops": FLOPS}
    teacher = {"distill": str(folder / DENSE)} if task.taught and method != DENSE else {}
    own = {**task.own.get(method, {}), **target, **teacher}
    return load_config(None, {**task.options, **own, **given, "seed": seed, "method": method})


def one_run(config: TrainConfig, plain_epochs: int, folder: Path) -> dict[str, Any]:
    """Train once; the figures and the curve of test accuracy."""
    plain = {}
    if plain_epochs and config.method != DENSE:
        short = config.updated(method=DENSE, flops=None, epochs=plain_epochs, eval_every=plain_epochs)
        (before,) = run_methods(short, [DENSE], folder / f"plain-before-{config.method}")
        plain = {"plain_images_per_second": round(before.samples_per_second)}
    (compared,) = run_methods(config, [config.method], folder)
    result = json.loads((compared.folder / "result.json").read_text())
    return {
        "method": _label(config.method),
        "seed": config.seed,
        "epochs": config.epochs,
        "top1": round(result["compact_top1"], 2),
        "agreement": result["agreement"],
        "flops": result["flops_compact"] / result["flops_dense"],
        "params": result["params_compact"] / result["params_dense"],
        "seconds": round(result["seconds"], 1),
        "images_per_second": round(compared.samples_per_second),
        **plain,
        "curve": _curve(compared),
    }


def _curve(compared: Compared) -> dict[int, float]:
    records = [json.loads(line) for line in (compared.folder / "metrics.jsonl").read_text().splitlines()]
    tested = [(r["epoch"], r.get("masked_top1", r.get("top1"))) for r in records if r["kind"] == "epoch"]
    return {epoch: round(top1, 2) for epoch, top1 in tested if top1 is not None}


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A row a method: means over seeds; the dense network is the first."""
    dense = [r for r in runs if r["method"] == "dense"]
    rows = []
    for method in dict.fromkeys(r["method"] for r in runs):
        mine = [r for r in runs if r["method"] == method]
        kept = [100 * r["flops"] for r in mine]
        rows.append(
            (
                method,
                f"{mean(r['top1'] for r in mine):.2f} %",
                f"{mean(r['top1'] for r in mine) - mean(r['top1'] for r in dense):+.2f}" if dense else "",
                ", ".join(f"{r['top1']:.2f}" for r in mine),
                f"{'-'.join(dict.fromkeys((f'{min(kept):.1f}', f'{max(kept):.1f}')))} %",
                f"{100 * mean(r['params'] for r in mine):.1f} %",
                f"{min(r['agreement'] for r in mine):.0f} %",
                f"{_epoch_time(mine, dense):.2f} x" if dense else "",
                f"{mean(r['seconds'] for r in mine):.0f}",
            )
        )
    return markdown(
        (
            "method",
            "top-1",
            "beside dense",
            "per seed",
            "FLOPs kept",
            "parameters kept",
            "masked = compact",
            "time of an epoch",
            "seconds a run",
        ),
        rows,
    )


def _epoch_time(mine: Sequence[Mapping[str, Any]], dense: Sequence[Mapping[str, Any]]) -> float:
    """Beside plain training: just before each run where that was measured, else in the dense runs."""
    plain = [r.get("plain_images_per_second") for r in mine]
    speeds = [speed for speed in plain if speed] or [r["images_per_second"] for r in dense]
    return float(mean(speeds) / mean(r["images_per_second"] for r in mine))


if __name__ == "__main__":
    main()
