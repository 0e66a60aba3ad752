"""Hold every promise of a program on many random nets.

    python -m benchmarks.fuzz --count 5000 --seed 0     # writes benchmarks/results/fuzz.json
    python -m benchmarks.fuzz --only 1234               # one net: its steps and what is broken

The nets of seed S are numbered from S * 1,000,000; a number gives the same net, weights, inputs and masks everywhere.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import record
from tests import invariants
from tests.generator import net_of_seed

NETS_OF_A_SEED = 1_000_000
SECONDS_A_NET = 8


@dataclass(frozen=True)
class Verdict:
    """What one net gave."""

    number: int
    failure: str | None
    unsuitable: bool = False
    share: float = 0.0
    steps: int = 0


def judge(number: int) -> Verdict:
    """Hold the promises on the net of that number."""
    net, inputs = net_of_seed(number)
    try:
        with _time_limit(SECONDS_A_NET):
            subject = invariants.hold(net, inputs, number)
    except invariants.UnsuitableError:
        return Verdict(number, None, unsuitable=True, steps=len(net.steps))
    except Exception as error:  # noqa: BLE001 - whatever a net meets is a finding to report with its number
        return Verdict(number, _one_line(error), steps=len(net.steps))
    return Verdict(number, None, share=invariants.prunable_share(subject.program), steps=len(net.steps))


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in the block if it takes more processor time."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _one_line(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:300]}"


def _start_worker() -> None:
    """One thread, and a collector that leaves alone what the imports made: nets are small, torch's modules are many."""
    torch.set_num_threads(1)
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def show(number: int) -> int:
    """Print one net and what is broken on it."""
    net, inputs = net_of_seed(number)
    print(f"net {number}, inputs {tuple(inputs(2).shape)}\n{net}\n")
    try:
        invariants.hold(net, inputs, number)
    except Exception:  # noqa: BLE001 - printed, and told by the exit status
        traceback.print_exc()
        return 1
    print("every promise holds")
    return 0


def main() -> int:
    arguments = _arguments()
    if arguments.only is not None:
        torch.set_num_threads(1)
        return show(arguments.only)
    first = arguments.seed * NETS_OF_A_SEED
    began = time.perf_counter()
    verdicts: list[Verdict] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.processes, _start_worker) as pool:
        for verdict in pool.imap_unordered(judge, range(first, first + arguments.count), chunksize=8):
            verdicts.append(verdict)
            if verdict.failure:
                print(f"{verdict.number}: {verdict.failure}", flush=True)
            if len(verdicts) % 500 == 0:
                print(f"{len(verdicts)} nets, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    verdicts.sort(key=lambda verdict: verdict.number)
    failures = [verdict for verdict in verdicts if verdict.failure]
    sound = [verdict for verdict in verdicts if not verdict.failure and not verdict.unsuitable]
    result = {
        **record.circumstances("fvcore", "hypothesis"),
        "count": len(verdicts),
        "seed": arguments.seed,
        "failures": [{"number": verdict.number, "failure": verdict.failure} for verdict in failures],
        "too_badly_conditioned_to_judge": [verdict.number for verdict in verdicts if verdict.unsuitable],
        "tolerance": invariants.TOLERANCE,
        "mean_share_of_parameters_prunable": round(sum(v.share for v in sound) / max(len(sound), 1), 4),
        "nets_with_nothing_prunable": sum(verdict.share == 0 for verdict in sound),
        "mean_steps": round(sum(verdict.steps for verdict in verdicts) / len(verdicts), 2),
        "processes": arguments.processes,
        "seconds": round(time.perf_counter() - began, 1),
    }
    for reason, times in Counter((v.failure or "").split(":")[0] for v in failures).most_common():
        print(f"{times:6d}  {reason}")
    print(f"{len(failures)} of {len(verdicts)} nets failed; {result['mean_share_of_parameters_prunable']:.1%} prunable")
    if not arguments.dry:
        print(record.write("fuzz", result))
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="number of nets")
    parser.add_argument("--seed", type=int, default=0, help="which million of nets")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="worker processes, one thread each")
    parser.add_argument("--only", type=int, help="the number of one net to look at")
    parser.add_argument("--dry", action="store_true", help="write no file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
