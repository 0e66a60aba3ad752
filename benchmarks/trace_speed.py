"""How long from a model to the full list of its groups, on one core, beside Torch-Pruning in the same run.

    python -m benchmarks.trace_speed [--rounds 7] [--models resnet50 densenet121]
    python -m benchmarks.trace_speed --every    # all classifiers of torchvision: results/trace_speed_every.{json,md}

`atofx.trace` gives groups, roles, reasons and costs; Torch-Pruning is asked for the same work: its dependency graph and
the list of all its groups. Both get a fresh model of the same seed and the same image each round, in turn, so that a
busy machine slows both; the medians of at least that many rounds, and of at least five seconds, are compared. Results
go to benchmarks/results/trace_speed.{json,md}.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import torch
import torch_pruning
import torchvision
from torch import nn

import atofx
from benchmarks import record
from benchmarks._coverage import models
from benchmarks._coverage.models import Entry
from benchmarks._coverage.process import answer

WANTED_SECONDS = {"resnet50": 0.4, "densenet121": 0.7, "efficientnet_b0": 0.4}
WANTED_RATIO = {
    "resnet50": 2.0,
    "mobilenet_v2": 2.0,
    "efficientnet_b0": 2.0,
    "efficientnet_b7": 2.0,
    "densenet121": 1.0,
}
MODELS = ("resnet50", "densenet121", "efficientnet_b0", "mobilenet_v2", "efficientnet_b7")
IMAGE = (1, 3, 224, 224)
#: Of a model that is traced in a fiftieth of a second, few rounds say little.
AT_LEAST_SECONDS = 5


def ours(model: nn.Module, image: torch.Tensor) -> int:
    """Number of atofx's groups."""
    return len(atofx.trace(model, image).groups)


def theirs(model: nn.Module, image: torch.Tensor) -> int:
    """Number of Torch-Pruning's groups."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=image)
    return len(list(graph.get_all_groups()))


def in_turn(first: nn.Module, image: torch.Tensor, rounds: int) -> dict[str, Any]:
    """Time both on one model, in turn: so many rounds, and more where they are short."""
    work: dict[str, Callable[[nn.Module, torch.Tensor], int]] = {"atofx": ours, "torch_pruning": theirs}
    seconds: dict[str, list[float]] = {tool: [] for tool in work}
    groups: dict[str, int] = {}
    start = time.perf_counter()
    for turn in count():
        if turn > rounds and time.perf_counter() - start > AT_LEAST_SECONDS:
            break
        for tool, function in work.items():
            model = copy.deepcopy(first)
            gc.collect()
            began = time.perf_counter()
            groups[tool] = function(model, image)
            if turn:  # the first round loads code and fills caches
                seconds[tool].append(time.perf_counter() - began)
    median = {tool: statistics.median(values) for tool, values in seconds.items()}
    return {
        "rounds": len(seconds["atofx"]),
        "seconds": {tool: round(value, 4) for tool, value in median.items()},
        "fastest": {tool: round(min(values), 4) for tool, values in seconds.items()},
        "slowest": {tool: round(max(values), 4) for tool, values in seconds.items()},
        "groups": groups,
        "ratio": round(median["atofx"] / median["torch_pruning"], 3),
    }


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One of the models with a time to meet."""
    torch.manual_seed(0)
    found = in_turn(torchvision.models.get_model(name, weights=None).eval(), torch.randn(IMAGE), rounds)
    limit, wanted = WANTED_SECONDS.get(name), WANTED_RATIO[name]
    met = found["ratio"] <= wanted and (limit is None or found["seconds"]["atofx"] <= limit)
    return {"model": name, **found, "wanted_seconds": limit, "wanted_ratio": wanted, "met": met}


def ask(entry: Entry, report: Callable[..., None], rounds: int) -> None:
    """Any classifier, on an image of its own size."""
    model = models.build(entry).eval()
    image = models.inputs(entry, models.sizes(entry).native, 1, torch.float32)[0]
    report(times=in_turn(model, image, rounds))


def every(rounds: int) -> None:
    """All classifiers of torchvision, each in a process of its own; those that one of the two refuses are listed."""
    rows = []
    for entry in models.entries("torchvision"):
        if entry.task == "classification":
            rows.append(answer("both", partial(ask, rounds=rounds), entry, seconds=60, gib=16))
            print(entry.name, rows[-1].get("times", {}).get("ratio"), rows[-1]["failure"] or "", flush=True)
    handled = sorted((row for row in rows if row["failure"] is None), key=lambda row: -row["times"]["ratio"])
    ratios = [row["times"]["ratio"] for row in handled]
    summary = {
        "models": len(rows),
        "handled_by_both": len(handled),
        "median_ratio": round(statistics.median(ratios), 3),
        "at_most_torch_pruning": sum(ratio <= 1 for ratio in ratios),
    }
    cells = [
        (
            row["model"],
            *(f"{row['times']['seconds'][tool]:.3f}" for tool in ("atofx", "torch_pruning")),
            f"{row['times']['ratio']:.2f}",
        )
        for row in handled
    ]
    refused = "".join(f"- {row['model']}: {row['failure']}\n" for row in rows if row["failure"])
    table = (
        "# From a model to the list of its groups, every classifier of torchvision, one core\n\n"
        f"Medians of {rounds} rounds or more ({AT_LEAST_SECONDS} seconds), in turn, one image of the model's own size. "
        f"Handled by both: {len(handled)} of "
        f"{len(rows)}; median ratio {summary['median_ratio']:.2f}; at most Torch-Pruning's time on "
        f"{summary['at_most_torch_pruning']}.\n\n"
        + record.markdown(("model", "atofx s", "Torch-Pruning s", "ratio"), cells)
        + (f"\nNot handled by both:\n\n{refused}" if refused else "")
    )
    result = {
        **record.circumstances("torchvision", "torch-pruning"),
        "rounds": rounds,
        "summary": summary,
        "rows": rows,
    }
    print(record.write("trace_speed_every", result, table))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--every", action="store_true", help="all classifiers of torchvision instead")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="some models; writes no file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.every:
        every(arguments.rounds)
        return 0
    results = []
    for name in arguments.models or MODELS:
        results.append(measure(name, arguments.rounds))
        print(_row(results[-1]), flush=True)
    if not arguments.models:
        header = ("model", "atofx s", "wanted s", "Torch-Pruning s", "ratio", "wanted", "met")
        table = (
            "# From a model to the list of its groups, one core\n\n"
            f"Medians of {arguments.rounds} rounds or more ({AT_LEAST_SECONDS} seconds), in turn, one image of "
            "224 x 224, eval mode, fp32.\n\n" + record.markdown(header, [_row(result) for result in results])
        )
        summary = {
            **record.circumstances("torchvision", "torch-pruning"),
            "threads": 1,
            "rounds": arguments.rounds,
            "image": list(IMAGE),
            "models": results,
        }
        print(record.write("trace_speed", summary, table))
    return 0 if all(result["met"] for result in results) else 1


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    limit = result["wanted_seconds"]
    return (
        result["model"],
        f"{result['seconds']['atofx']:.3f}",
        "-" if limit is None else f"{limit}",
        f"{result['seconds']['torch_pruning']:.3f}",
        f"{result['ratio']:.2f}",
        f"{result['wanted_ratio']}",
        "yes" if result["met"] else "no",
    )


if __name__ == "__main__":
    sys.exit(main())
