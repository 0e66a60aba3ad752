"""Hold every promise of a program on many random nets.

    python -m benchmarks.fuzz --count 5000 --seed 0     # writes benchmarks/results/fuzz.json
    python -m benchmarks.fuzz --count 5000 --resume     # goes on where the run in that file stopped, on the same code
    python -m benchmarks.fuzz --only 1234               # one net: its steps and what is broken

The nets of seed S are numbered from S * 1,000,000; a number gives the same net, weights, inputs and masks everywhere.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from benchmarks import record
from tests import invariants
from tests.generator import net_of_seed

NETS_OF_A_SEED = 1_000_000
SECONDS_A_NET = 8
NETS_A_TASK = 8
#: Torch keeps the code of every graph that was ever made, so a worker grows and slows down.
TASKS_A_WORKER = 150
RESULT = "fuzz"
JUDGES = ("tests/generator.py", "tests/invariants.py")
NO_PART = ("bench", "cli", "methods", "report", "train", "zoo")


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
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


@dataclass
class Tally:
    """What the nets of a seed gave so far, in the order of their numbers.

    Attributes:
        seed: which million of nets.
        code: tells apart states of the code.
        count: nets that were judged.
        failures: numbers, and what was broken.
        unsuitable: numbers of nets whose rounding errors grow too much to say anything.
        shares, steps: sums over sound nets and over all.
        nothing: sound nets with nothing prunable.
        seconds: of the clock.
    """

    seed: int
    code: str
    count: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    unsuitable: list[int] = field(default_factory=list)
    shares: float = 0.0
    steps: int = 0
    nothing: int = 0
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one net."""
        self.count += 1
        self.steps += verdict.steps
        if verdict.failure:
            self.failures.append({"number": verdict.number, "failure": verdict.failure})
        elif verdict.unsuitable:
            self.unsuitable.append(verdict.number)
        else:
            self.shares += verdict.share
            self.nothing += verdict.share == 0

    @property
    def mean_share(self) -> float:
        """Mean share of the parameters that is prunable, over sound nets."""
        return self.shares / max(self.count - len(self.failures) - len(self.unsuitable), 1)


def main() -> int:
    arguments = _arguments()
    if arguments.only is not None:
        torch.set_num_threads(1)
        return show(arguments.only)
    tally = resumed() if arguments.resume else Tally(arguments.seed, code_state())
    _judge_all(tally, arguments.count, arguments.processes, None if arguments.dry else RESULT)
    for reason, times in Counter(entry["failure"].split(":")[0] for entry in tally.failures).most_common():
        print(f"{times:6d}  {reason}")
    print(f"{len(tally.failures)} of {tally.count} nets failed; {tally.mean_share:.1%} prunable")
    return 1 if tally.failures else 0


def _judge_all(tally: Tally, count: int, processes: int, result: str | None) -> None:
    """Go on up to ``count`` nets; what there is so far is written every 500, and at Ctrl-C."""
    first, before, began = tally.seed * NETS_OF_A_SEED, tally.seconds, time.perf_counter()
    context = multiprocessing.get_context("spawn")
    try:
        with context.Pool(processes, _start_worker, maxtasksperchild=TASKS_A_WORKER) as pool:
            for verdict in pool.imap(judge, range(first + tally.count, first + count), chunksize=NETS_A_TASK):
                tally.add(verdict)
                tally.seconds = before + time.perf_counter() - began
                if verdict.failure:
                    print(f"{verdict.number}: {verdict.failure}", flush=True)
                if tally.count % 500 == 0:
                    print(f"{tally.count} nets, {tally.seconds:.0f} s", file=sys.stderr, flush=True)
                    _write(tally, processes, result)
    except KeyboardInterrupt:
        print(f"stopped after {tally.count} nets; --resume goes on", file=sys.stderr)
    finally:
        _write(tally, processes, result)


def _write(tally: Tally, processes: int, result: str | None) -> None:
    if result is not None:
        figures = {
            **record.circumstances("fvcore", "hypothesis"),
            **asdict(tally),
            "tolerance": invariants.TOLERANCE,
            "mean_share_of_parameters_prunable": round(tally.mean_share, 4),
            "mean_steps": round(tally.steps / max(tally.count, 1), 2),
            "processes": processes,
        }
        record.write(result, figures)


def resumed() -> Tally:
    """The tally of the run whose results are there.

    Raises:
        SystemExit: there is none, or the code is another one since.
    """
    path = record.RESULTS / f"{RESULT}.json"
    if not path.is_file():
        raise SystemExit(f"no run to go on with: {path} is not there")
    found = json.loads(path.read_text())
    if found.get("code") != code_state():
        raise SystemExit(f"the run in {path} was of other code; begin a new one without --resume")
    return Tally(**{name: found[name] for name in (entry.name for entry in fields(Tally))})


def code_state() -> str:
    """A number of all code that has a part in a verdict: what the random nets and their judge use."""
    root = Path(__file__).parent.parent
    passes, judges = root.glob("passes/*.py"), (root / name for name in JUDGES)
    atofx = (f for f in root.glob("atofx/**/*.py") if f.relative_to(root).parts[1] not in ("passes", *NO_PART))
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted([*atofx, *passes, *judges]):
        digest.update(f"{file.relative_to(root).as_posix()}\0{_code_of(file)}\0".encode())
    return digest.hexdigest()


def _code_of(file: Path) -> str:
    """What a file does: without comments, docstrings and line breaks."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="number of nets")
    parser.add_argument("--seed", type=int, default=0, help="which million of nets")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="worker processes, one thread each")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the results, on the same code")
    parser.add_argument("--only", type=int, help="the number of one net to look at")
    parser.add_argument("--dry", action="store_true", help="write no file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
