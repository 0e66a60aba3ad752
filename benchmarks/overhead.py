"""What methods add to a training step: ResNet-56, batch 128, CPU, fp32.

ATO with its controller steps, and its projection alone; the optimizers HSPG, DHSPG and HESSO above SGD's own step; a
step of the search of TAS, which trains weights and logits on a batch each, beside two plain steps.

    python -m benchmarks.overhead [--rounds 10] [--threads 2]

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

import torch
from torch.nn import functional

import atofx
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
    Schedule,
    SparseOptimizer,
    oneshot,
)
from atofx.methods.producers import Dropped, producer_axes
from atofx.methods.projection import Proximal
from atofx.methods.selection import UnitSpace
from atofx.zoo.resnet import resnet56
from benchmarks import record

EVERY = 20
MOST_OFTEN = 5
EPOCH = 391


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = resnet56()
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
    search = TAS(program, 0.5, total_steps=10**6)
    space = UnitSpace(program.prunable)
    keep = space.join(oneshot(program, 0.5, scope="uniform"))
    producers = Dropped(program, space, producer_axes(space), keep)
    sparse = _sparse_optimizers(program, model)
    for part in sparse.values():
        part()  # makes its choice of units, once
    parts: dict[str, Callable[[], None]] = {
        "plain step": plain,
        "projection": lambda: Proximal().step(producers, lmd=1e-6, lr=1e-6),
        "controller step": lambda: learner.step(lr=0.0, batch=batch),
        "drawing a mask": lambda: drawer.step(lr=0.0, batch=batch),
        "search step of TAS": lambda: search.step(batch, batch),
        "SGD's own step": _step(torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9), model),
        **sparse,
    }
    seconds = _interleaved(parts, arguments.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    step = medians["plain step"]
    projection = medians["projection"] / step
    controller = medians["controller step"] / step
    drawing = medians["drawing a mask"] / EPOCH / step
    total = projection + controller / EVERY + drawing
    phases = Schedule()
    window = phases.t_end - phases.t_start
    short = (1 - phases.t_w) * projection + window * (controller / MOST_OFTEN + drawing)
    rows = [(name, f"{value * 1e3:.2f} ms", f"{100 * value / step:.2f} %", "") for name, value in medians.items()]
    rows += [
        ("projection adds", "", f"{100 * projection:.2f} %", "<= 2 %"),
        ("ATO adds in the controller's window", "", f"{100 * total:.2f} %", "<= 10 %"),
        ("ATO adds to a whole short training", "", f"{100 * short:.2f} %", "<= 10 %"),
    ]
    searching = medians["search step of TAS"] / (2 * step)
    rows += [("a search step of TAS takes, of two plain steps", "", f"{100 * searching:.2f} %", "")]
    added = {name: 100 * (medians[name] - medians["SGD's own step"]) / step for name in sparse}
    rows += [(f"{name} adds", "", f"{percent:.2f} %", "<= 2 %") for name, percent in added.items()]
    table = record.markdown(("", "median", "of a plain step", "wanted"), rows)
    result = record.circumstances() | {
        "model": "resnet56",
        "batch": arguments.batch,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "milliseconds": {name: round(value * 1e3, 3) for name, value in medians.items()},
        "projection_percent": round(100 * projection, 3),
        "ato_percent": round(100 * total, 3),
        "ato_short_training_percent": round(100 * short, 3),
        "tas_search_percent_of_two_steps": round(100 * searching, 3),
        "optimizers_percent": {name: round(percent, 3) for name, percent in added.items()},
    }
    record.write("overhead", result, table)
    print(table)


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
    return parser.parse_args()


if __name__ == "__main__":
    main()
