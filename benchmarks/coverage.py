"""Does it work on every architecture of torchvision and timm, exactly, and if not, why?

    python -m benchmarks.coverage --peers               # all; hours on one core; writes docs/coverage.md
    python -m benchmarks.coverage --processes 2         # two models at a time; their seconds hold each other's work
    python -m benchmarks.coverage --models 'timm/swin*' # some; prints the page

Every model gets random weights and norm statistics and loses half of every group; in float64 the compact module, the
gated one and the user's own model with its producers zeroed must agree. FLOPs are multiply-adds counted once. Each
model and tool has a process of its own with a limit of time and memory. Rows are added to a file as they are found
(`--out`); what it holds already is not asked again, unless `--again`.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import atofx
from benchmarks import record
from benchmarks._coverage import models, peers, tables
from benchmarks._coverage.ours import KEEP, ask
from benchmarks._coverage.process import Question, Row, answer

PAGE = Path(__file__).parent.parent / "docs/coverage.md"
SECONDS = 900
PEER_SECONDS = 120
GIB = 16.0


def main() -> int:
    arguments = _arguments()
    wanted = [e for e in models.entries(arguments.suite) if fnmatch.fnmatch(e.key, arguments.models)]
    if not wanted:
        print(f"no model is called {arguments.models!r}; names are like torchvision/resnet18", file=sys.stderr)
        return 2
    tools: dict[str, Question] = {tables.OURS: ask}
    if arguments.peers:
        tools |= {tool: question for tool, question in peers.TOOLS.items() if peers.installed(tool)}
    rows = _read(arguments.out)
    left = [(tool, e) for e in wanted for tool in tools if arguments.again or (tool, e.key) not in rows]
    for row in _answers(left, tools, arguments.processes):
        rows[row["tool"], row["model"]] = row
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['tool']:<14} {row['model']:<45} {_verdict(row)}", flush=True)
    found = [rows[tool, e.key] for e in wanted for tool in tools if (tool, e.key) in rows]
    if arguments.suite == "all" and arguments.models == "*":
        print(record.write("coverage", _result(found, tools)))
        PAGE.write_text(tables.markdown(found))
    else:
        print(tables.markdown(found))
    return 0 if all(tables.exact(row) for row in found if row["tool"] == tables.OURS) else 1


def _answers(asked: list[tuple[str, models.Entry]], tools: dict[str, Question], processes: int) -> Iterator[Row]:
    """Rows as they are found; each question runs in a process of its own, the threads only wait for them."""
    with ThreadPoolExecutor(processes) as waiting:
        rows = [
            waiting.submit(answer, tool, tools[tool], entry, seconds=_limit(tool, entry), gib=GIB)
            for tool, entry in asked
        ]
        try:
            for row in as_completed(rows):
                yield _portable(row.result())
        finally:
            waiting.shutdown(cancel_futures=True)


def _limit(tool: str, entry: models.Entry) -> float:
    """Seconds of processor time: peers get fewer, but for detectors, of which a single run takes long."""
    return SECONDS if tool == tables.OURS or entry.family == "detection" else PEER_SECONDS


def _verdict(row: Row) -> str:
    if row["tool"] == tables.OURS:
        kept, share = row.get("params_kept", "-"), row.get("prunable_share", "-")
        return f"{tables.fault(row) or 'exact'}; prunable {share}, kept {kept}, {row['seconds']} s"
    return f"{row['failure'] or row['error']}; kept {row.get('params_kept', '-')}, {row['seconds']} s"


def _read(path: Path) -> dict[tuple[str, str], Row]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    return {(row["tool"], row["model"]): row for row in map(_portable, map(json.loads, lines))}


def _portable(row: Row) -> Row:
    """Without the folder in which packages are installed here."""
    found: Row = json.loads(json.dumps(row).replace(f"{sysconfig.get_path('purelib')}/", ""))
    return found


def _result(rows: list[Row], tools: dict[str, Any]) -> dict[str, Any]:
    installed = [name for name in ("torchvision", "timm", "fvcore", "torch-pruning", "only-train-once") if _has(name)]
    return {
        **record.circumstances(*installed),
        "atofx": atofx.__version__,
        "keep": KEEP,
        "limits": {"seconds": SECONDS, "peer_seconds": PEER_SECONDS, "gib": GIB},
        "tools": {tool: "asked" if tool in tools else "not asked" for tool in (tables.OURS, *peers.TOOLS)},
        "summary": tables.summary(rows),
        "trace_time_beside_torch_pruning": tables.trace_ratio(rows),
        "reasons": tables.reasons(row for row in rows if row["tool"] == tables.OURS),
        "models": rows,
    }


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("torchvision", "timm", "all"), default="all")
    parser.add_argument("--models", default="*", metavar="PATTERN", help="suite/name, with * and ?")
    parser.add_argument("--peers", action="store_true", help="ask Torch-Pruning and only_train_once too, if installed")
    parser.add_argument("--out", type=Path, default=Path("build/coverage.jsonl"), help="where rows are collected")
    parser.add_argument("--processes", type=int, default=1, help="models asked at a time")
    parser.add_argument("--again", action="store_true", help="ask again what is in that file")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error(f"--processes {arguments.processes}: at least one is needed")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
