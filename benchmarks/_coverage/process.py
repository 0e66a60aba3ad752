"""One model in a process of its own: its memory is its own, and whatever happens to it is an answer."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks._coverage.measure import one_line
from benchmarks._coverage.models import Entry

#: A process may take this many times its limit of processor time by the clock: others use the machine too.
PATIENCE = 5

Question = Callable[[Entry, Callable[..., None]], None]
Row = dict[str, Any]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["benchmarks._coverage.preload"])


def answer(tool: str, question: Question, entry: Entry, *, seconds: float, gib: float) -> Row:
    """The row of one tool and model: what was reported, and in ``failure`` how it ended if not well.

    ``seconds`` are of processor time, so that a busy machine fails nobody.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(question, entry, seconds, gib, sender))
    row: Row = {"tool": tool, "model": entry.key, "family": entry.family, "failure": None}
    began = time.perf_counter()
    process.start()
    sender.close()
    deadline = began + PATIENCE * seconds
    while True:
        try:
            if not receiver.poll(max(deadline - time.perf_counter(), 0)):
                process.kill()
                row["failure"] = f"not done after {PATIENCE * seconds:.0f} s by the clock"
                break
            row.update(receiver.recv())
        except EOFError:
            break
    process.join()
    if process.exitcode == -signal.SIGXCPU:
        row["failure"] = f"not done after {seconds:.0f} s"
    elif process.exitcode and row["failure"] is None:
        row["failure"] = f"the process died (exit code {process.exitcode})"
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def _run(question: Question, entry: Entry, seconds: float, gib: float, sender: Connection) -> None:
    import torch

    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 10))
    limit = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")
    try:
        question(entry, lambda **found: sender.send(found))
    except Exception as error:  # noqa: BLE001 - whatever a tool does to a model is the answer
        sender.send({"failure": one_line(error)})
    finally:
        sender.close()
