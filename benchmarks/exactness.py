"""Float64 exactness on torchvision models and the zoo: compact, zeroed and gated agree, and costs are as predicted.

    python -m benchmarks.exactness                    # all; writes benchmarks/results/exactness.{json,md}
    python -m benchmarks.exactness --only resnet50 zoo/vgg16_bn

Every model has random weights and random norm statistics. Masks are random at keep 0.5 and 0.2 with three seeds; the
error is the largest over masks, over eval and training mode (dropout off), and over both comparisons, relative to the
largest output. Images are as small as the model allows where all it does is pool them (the table says how large); FLOPs
are multiply-adds counted once, at that size. Each model runs in a process of its own, so the memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from typing import Any

import torch

import atofx
from benchmarks import record
from tests import invariants
from tests.torchvision_models import BOTH, KEEPS, MODELS, SEEDS, Entry, build, inputs

ZOO = "zoo/"


def measure(name: str) -> dict[str, Any]:
    """Hold promises 1 to 3 on one model and describe it; a broken promise is reported in ``"failure"``."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.manual_seed(0)
    began = time.perf_counter()
    if name.startswith(ZOO):
        from atofx import zoo

        entry, model = Entry((3, 32, 32)), zoo.build(name.removeprefix(ZOO)).double()
    else:
        entry, model = MODELS[name], build(name)
    result: dict[str, Any] = {"model": name, "image": list(entry.shape), "modes": list(entry.modes)}
    try:
        result |= _hold(model, entry)
        result["failure"] = None
        if entry.most is not None and result["params_left_at_half"] > entry.most:
            result["failure"] = f"more than {entry.most:.1%} of the parameters are left at half of every group"
    except Exception as error:  # noqa: BLE001 - one model's failure must not hide the others' results
        result["failure"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    result["seconds"] = round(time.perf_counter() - began, 1)
    result["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return result


def _hold(model: torch.nn.Module, entry: Entry) -> dict[str, Any]:
    model.eval()
    x = inputs(entry.shape)
    start = time.perf_counter()
    subject = invariants.trace(model, x, entry.modes)
    traced = time.perf_counter() - start
    program = subject.program
    invariants.well_formed(subject)
    invariants.explained(subject)
    errors, effects, left = [], [], []
    for seed in SEEDS:
        invariants.randomise(model, seed)
        for keep in KEEPS:
            mask = program.random_mask(keep=keep, seed=seed)
            errors.append(invariants.check_mask(subject, mask))
            if keep == KEEPS[0]:
                effects.append(invariants.effect(subject, mask))
                left.append((program.params(mask), program.flops(mask)))
    invariants.full_mask_is_dense(subject)
    params, flops = program.params(), program.flops()
    return {
        "error": max(errors),
        "smallest_effect_of_a_mask": min(effects),
        "masks": len(errors),
        "params": params,
        "params_left_at_half": round(sum(p for p, _ in left) / len(left) / params, 4),
        "flops": flops,
        "flops_left_at_half": round(sum(f for _, f in left) / len(left) / flops, 4),
        "groups": len(program.groups),
        "prunable_groups": len(program.prunable),
        "prunable_units": sum(group.size for group in program.prunable),
        "prunable_share_of_parameters": round(invariants.prunable_share(program), 4),
        "trace_seconds_cold": round(traced, 3),
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    header = (
        "model",
        "image",
        "error",
        "params left %",
        "FLOPs left %",
        "groups",
        "units",
        "seconds",
        "GiB",
        "verdict",
    )
    rows = []
    for r in results:
        image = "x".join(map(str, r["image"][1:]))
        if "error" in r:
            numbers = [
                f"{r['error']:.1e}",
                f"{100 * r['params_left_at_half']:.1f}",
                f"{100 * r['flops_left_at_half']:.1f}",
                f"{r['prunable_groups']} of {r['groups']}",
                r["prunable_units"],
            ]
        else:
            numbers = ["-"] * 5
        verdict = r["failure"] or "exact" + ("" if r["modes"] == list(BOTH) else ", eval mode only")
        rows.append((r["model"], image, *numbers, r["seconds"], r["peak_gib"], verdict))
    return (
        "# Exactness in float64\n\n"
        "Random masks at keep 0.5 and 0.2, three seeds each; what is left is at keep 0.5. FLOPs and parameters of\n"
        "every compact model are exactly as predicted. FLOPs are multiply-adds counted once.\n\n"
        + record.markdown(header, rows)
    )


def main() -> int:
    arguments = _arguments()
    names = arguments.only or [*MODELS, *(ZOO + name for name in _zoo_names())]
    results = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.processes, maxtasksperchild=1) as pool:
        for result in pool.imap(measure, names, chunksize=1):
            results.append(result)
            print(f"{result['model']:<22} {result.get('error', '-')!s:<24} {result['failure'] or 'exact'}", flush=True)
    failed = [result["model"] for result in results if result["failure"]]
    if not arguments.only:
        summary = {
            **record.circumstances("torchvision", "fvcore"),
            "atofx": atofx.__version__,
            "tolerance": invariants.TOLERANCE,
            "keeps": list(KEEPS),
            "seeds": list(SEEDS),
            "failed": failed,
            "models": results,
        }
        print(record.write("exactness", summary, table(results)))
    else:
        print(table(results))
    return 1 if failed else 0


def _zoo_names() -> tuple[str, ...]:
    from atofx import zoo

    return zoo.names()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="some models; prints the table and writes no file")
    parser.add_argument("--processes", type=int, default=1, help="models at a time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
