"""What methods add to a training step: ResNet-56 and MobileNetV2 for CIFAR, batch 128, CPU, fp32.

ATO with its controller steps, and its projection alone; the optimizers HSPG, DHSPG and HESSO above SGD's own step; a
step of the search of TAS, which trains weights and logits on a batch each, beside two plain steps; and a step of the
search of Pruning from Scratch, which trains gates alone, beside a plain one.

    python -m benchmarks.overhead [--rounds 10] [--threads 2] [--models resnet56,mobilenetv2]

The parts are timed in turn within each round (plain step, projection, controller step, drawing a mask), so that a busy
machine slows all alike, and their medians are compared. Inside the controller's window one step in twenty is a
controller step and one mask is drawn an epoch (391 steps of 128 images); the projection runs on half of the FLOPs
dropped. A short training has a controller step in five, so its share of the whole training is shown as well. FLOPs are
multiply-adds counted once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

import atofx
from atofx import zoo
from atofx.methods import (
    ATO,
    DHSPG,
    HESSO,
    HSPG,
    TAS,
    DHSPGSchedule,
    HESSOSchedule,
    HSPGSchedule,
    Kind,
    PruningFromScratch,
    Schedule,
    SparseOptimizer,
    oneshot,
)
from atofx.methods.producers import Dropped, producer_axes
from atofx.methods.projection import Proximal
from atofx.methods.selection import UnitSpace
from benchmarks import record

EVERY = 20
MOST_OFTEN = 5
EPOCH = 391
PLAIN = "plain step"


@dataclass(frozen=True)
class Found:
    """Of one network: seconds of every part, and what methods add in percent of a plain step.

    Attributes:
        medians: part -> seconds.
        percents: what is said of the parts -> (percent, the most that is wanted).
    """

    medians: dict[str, float]
    percents: dict[str, tuple[float, str]]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    found = {name: _measured(name, arguments) for name in arguments.models.split(",")}
    first = next(iter(found.values()))
    rows = [
        (part, *(cell for one in found.values() for cell in _cells(one.medians[part], one.medians[PLAIN])), "")
        for part in first.medians
    ]
    rows += [
        (what, *(cell for one in found.values() for cell in ("", f"{one.percents[what][0]:.2f} %")), wanted)
        for what, (_, wanted) in first.percents.items()
    ]
    header = ("", *(cell for name in found for cell in (name, "of a plain step")), "wanted")
    table = record.markdown(header, rows)
    result = record.circumstances() | {
        "batch": arguments.batch,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "models": {
            name: {
                "milliseconds": {part: round(value * 1e3, 3) for part, value in one.medians.items()},
                "percent": {what: round(percent, 3) for what, (percent, _) in one.percents.items()},
            }
            for name, one in found.items()
        },
    }
    record.write("overhead", result, table)
    print(table)


def _cells(seconds: float, plain: float) -> tuple[str, str]:
    return f"{seconds * 1e3:.2f} ms", f"{100 * seconds / plain:.2f} %"


def _measured(name: str, arguments: argparse.Namespace) -> Found:
    torch.manual_seed(0)
    model = zoo.build(name)
    program = atofx.trace(model, torch.zeros(1, 3, 32, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batch = torch.randn(arguments.batch, 3, 32, 32), torch.randint(10, (arguments.batch,))

    def plain() -> None:
        functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        optimizer.zero_grad()

    always = Schedule(t_start=0.0, t_w=1.0, t_end=1.0)
    learner = ATO(program, 0.5, total_steps=10**6, every=1, steps_per_epoch=10**6, schedule=always)
    drawer = ATO(program, 0.5, total_steps=10**6, every=10**6, steps_per_epoch=1, schedule=always)
    drawer.step(lr=0.0, batch=batch)
    learner.step(lr=0.0, batch=batch)
    search, gates = TAS(program, 0.5, total_steps=10**6), PruningFromScratch(program, 0.5)
    space = UnitSpace(program.prunable)
    keep = space.join(oneshot(program, 0.5, scope="uniform"))
    producers = Dropped(program, space, producer_axes(space), keep)
    sparse = _sparse_optimizers(program, model)
    for part in sparse.values():
        part()  # makes its choice of units, once
    parts: dict[str, Callable[[], None]] = {
        PLAIN: plain,
        "projection": lambda: Proximal().step(producers, lmd=1e-6, lr=1e-6),
        "controller step": lambda: learner.step(lr=0.0, batch=batch),
        "drawing a mask": lambda: drawer.step(lr=0.0, batch=batch),
        "search step of TAS": lambda: search.step(batch, batch),
        "search step of Pruning from Scratch": lambda: gates.step(batch),
        "SGD's own step": _step(torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9), model),
        **sparse,
    }
    seconds = _interleaved(parts, arguments.rounds)
    medians = {part: statistics.median(values) for part, values in seconds.items()}
    step = medians[PLAIN]
    projection = medians["projection"] / step
    controller = medians["controller step"] / step
    drawing = medians["drawing a mask"] / EPOCH / step
    phases = Schedule()
    window = phases.t_end - phases.t_start
    percents = {
        "projection adds": (projection, "<= 2 %"),
        "ATO adds in the controller's window": (projection + controller / EVERY + drawing, "<= 10 %"),
        "ATO adds to a whole short training": (
            (1 - phases.t_w) * projection + window * (controller / MOST_OFTEN + drawing),
            "<= 10 %",
        ),
        "a search step of TAS takes, of two plain steps": (medians["search step of TAS"] / (2 * step), ""),
        "a search step of Pruning from Scratch takes": (medians["search step of Pruning from Scratch"] / step, ""),
    }
    own = medians["SGD's own step"]
    percents |= {f"{part} adds": ((medians[part] - own) / step, "<= 2 %") for part in sparse}
    return Found(medians, {what: (100 * share, wanted) for what, (share, wanted) in percents.items()})


def _sparse_optimizers(program: atofx.Program, model: torch.nn.Module) -> dict[str, Callable[[], None]]:
    """One step of each in its dearest phase; nothing moves, as the rate is zero."""

    def base() -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    length = 10**6
    always = HSPGSchedule(t_half_space=0.0, t_decide=1.0, t_end=1.0)
    split = DHSPGSchedule(t_partition=0.0, t_fade=1.0, t_end=1.0)
    made: dict[str, SparseOptimizer] = {
        "HSPG, sub-gradient": HSPG(
            base(), program, flops=0.5, total_steps=length, schedule=HSPGSchedule(1.0, 1.0, 1.0)
        ),
        "HSPG, half-space": HSPG(
            base(), program, flops=0.5, total_steps=length, schedule=always, kind=Kind(adaptive=True)
        ),
        "DHSPG, candidates": DHSPG(base(), program, flops=0.5, total_steps=length, schedule=split),
        "HESSO, fading": HESSO(
            base(), program, flops=0.5, total_steps=length, schedule=HESSOSchedule(0.0, 1.0, periods=1)
        ),
    }
    return {name: _step(optimizer, model) for name, optimizer in made.items()}


def _step(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> Callable[[], None]:
    gradients = [torch.randn_like(parameter) for parameter in model.parameters()]

    def run() -> None:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()

    return run


def _interleaved(parts: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(rounds + 1):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default="resnet56,mobilenetv2", help="names of the zoo")
    return parser.parse_args()


if __name__ == "__main__":
    main()
