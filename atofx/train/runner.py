"""A run from its configuration to its result: data, model, baseline, training, comparison, files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import nn

import atofx
from atofx.bench import Rounds, latencies_ms
from atofx.bench.machine import pinned_threads
from atofx.bench.preferred import round_to_number
from atofx.bench.setting import Device, Setting
from atofx.bench.spread import Spread, pairwise
from atofx.errors import ConfigError
from atofx.passes.carry import carried
from atofx.passes.verify import TOLERANCE
from atofx.report.run_report import write_run_report
from atofx.train import rng
from atofx.train.build_method import build_method, build_search, check_method, expansion_of, target_of
from atofx.train.config import TrainConfig
from atofx.train.distill import BASELINE, Teacher, load_teacher
from atofx.train.engine import Engine, training_order
from atofx.train.images import DataSet
from atofx.train.network import Dense
from atofx.train.processes import Processes
from atofx.train.result import LayerFlops, RunResult, Score, Verification
from atofx.train.run_folder import RunFolder, check, choose, prepare
from atofx.train.search_data import SearchData
from atofx.train.task import loss_of
from atofx.train.tasks import load_task
from atofx.train.two_phases import TwoPhases

if TYPE_CHECKING:
    from atofx.ir.mask import Mask
    from atofx.program import Program


def execute(config: TrainConfig) -> RunResult:
    """What :func:`atofx.train.run` does."""
    check_method(config.method)
    processes = Processes.present()
    config = _measured(config, processes)
    if config.out is not None:
        check(RunFolder(choose(config)), config)
    with rng.isolated(), pinned_threads(config.threads):
        return _Run(config, processes, Console(quiet=not processes.is_main)).execute()


def _measured(config: TrainConfig, processes: Processes) -> TrainConfig:
    """The configuration with a number for ``round_to``, found by the main process where it is ``auto``."""
    if isinstance(config.round_to, int):
        return config
    before = RunFolder(choose(config)).config
    if config.resume and before.exists():  # what was measured when the run began
        return config.updated(round_to=TrainConfig.from_yaml(before).round_to)
    device: Device = "cuda" if processes.device.type == "cuda" else "cpu"
    found = ""
    if processes.is_main:
        with pinned_threads(config.threads):
            found = str(round_to_number(config.round_to, Setting(device=device)))
    return config.updated(round_to=int(processes.agree(found)))


class _Run:
    """The steps of one run and what they share."""

    def __init__(self, config: TrainConfig, processes: Processes, console: Console) -> None:
        count = processes.share.processes
        if config.batch_size % count or config.eval_batch_size % count:
            raise ConfigError(
                f"batch_size {config.batch_size} and eval_batch_size {config.eval_batch_size} are those of all "
                f"{count} processes together and must be multiples of {count}"
            )
        self._began = time.perf_counter()
        self._earlier = 0.0
        self._config = config
        self._processes = processes
        self._console = console
        self._task = load_task(config, processes)
        if len(self._task.train) < count:
            samples = f"{len(self._task.train)} training {self._task.words.samples}"
            raise ConfigError(f"{samples} cannot be shared by {count} processes")

    def execute(self) -> RunResult:
        """All of it."""
        config = self._config
        model = self._task.model()
        base = self._trace(model)
        self._describe(base)
        model, program = self._widened(model, base)
        options, method = config.search, None
        if options is not None:
            images = SearchData(config, options, self._labelled_images(), self._processes.share)
            search = build_search(config, program, base, images.steps)
        else:
            steps = training_order(config, self._task, self._processes).steps_per_epoch
            method = build_method(config, program, steps, loss_of(self._task))
        folder = RunFolder(Path(self._processes.agree(str(choose(config)))))
        teacher = None if config.distill in (None, BASELINE) else self._teacher(Path(str(config.distill)).expanduser())
        if config.resume and not folder.config.exists():
            self._console.print(f"There is no run in {folder.path} yet: this one starts from the beginning.")
        self._prepare(folder, config)
        dense = self._baseline(folder) if config.baseline and config.method != "none" else None
        if config.distill == BASELINE:
            teacher = self._teacher(folder.baseline.path)
        self._say(f"Training in {folder.path}")
        without: tuple[str, ...] = ()
        if options is not None:
            shared = (self._processes, folder, self._console, teacher)
            found = TwoPhases(config, options, self._task, images, *shared).run(search, program, base, model)
            program, mask, without = found.program, found.mask, found.without
            self._earlier += found.earlier_seconds
        else:
            network = Dense(model, program)
            self._fit(
                Engine(config, self._task, network, method, self._processes, folder, self._console, teacher=teacher)
            )
            mask = program.full_mask() if method is None else method.mask()
        result = self._compare(base, program, mask, dense, folder, without)
        self._processes.wait()
        self._console.print(result.table())
        self._say(f"Everything is in {folder.path}")
        return result

    def _labelled_images(self) -> DataSet:
        images = self._task.images
        if images is None:
            raise ConfigError(
                f"method {self._config.method} searches with labelled images, and task {self._config.task} has none; "
                "take a method that decides while the network trains, such as hspg, dhspg, hesso or ato"
            )
        return images

    def _trace(self, model: nn.Module) -> Program:
        config = self._config
        return atofx.trace(
            model,
            self._task.example(1),
            frontend=config.frontend,
            freeze=config.freeze,
            only=config.only,
            granularity=config.granularity,
        )

    def _widened(self, model: nn.Module, base: Program) -> tuple[nn.Module, Program]:
        """The network that is searched: wider than the user's, if the method is asked for that."""
        factors, options = expansion_of(self._config), self._config.search
        if factors == 1 or options is None:
            return model, base
        wide = base.widen(factors, seed=self._config.seed, init=options.init)
        if self._config.channels_last:
            wide.to(memory_format=torch.channels_last)
        program = self._trace(wide)
        self._say(f"Widened to {program.params():,} parameters, {program.flops():,} FLOPs")
        return wide, program

    def _describe(self, program: Program) -> None:
        config, task = self._config, self._task
        self._say(
            f"{config.model}: {program.params():,} parameters, {program.flops():,} FLOPs (multiply-adds of one "
            f"{task.words.sample}, counted once); {task.summary()}; "
            f"{self._processes.share.processes} x {self._processes.device.type}, {config.precision}, seed {config.seed}"
        )
        target = target_of(config, program)
        if target is not None:
            self._say(
                f"Target: {target.flops:.1%} of all FLOPs, which is p = {target.p:.3f} of the prunable ones; "
                f"the least possible is {target.least:.1%}"
            )

    def _prepare(self, folder: RunFolder, config: TrainConfig) -> None:
        """The main process makes the folder; if it cannot, all of them stop."""
        trouble = ""
        if self._processes.is_main:
            try:
                prepare(folder, config)
                self._task.keep(folder.path)
            except ConfigError as error:
                trouble = str(error)
        trouble = self._processes.agree(trouble)
        if trouble:
            raise ConfigError(trouble)

    def _baseline(self, folder: RunFolder) -> dict[str, float]:
        """The figures of the dense network after the same training; it starts from the same weights."""
        config = self._config.updated(method="none", baseline=False, distill=None, out=str(folder.baseline.path))
        self._prepare(folder.baseline, config)
        self._say(f"Training the dense baseline in {folder.baseline.path}")
        model = self._task.model()
        self._fit(Engine(config, self._task, Dense(model), None, self._processes, folder.baseline, self._console))
        return self._task.evaluate(model)

    def _teacher(self, path: Path) -> Teacher:
        return load_teacher(path, self._config, self._task, self._processes.device)

    def _fit(self, engine: Engine) -> None:
        engine.fit()
        self._earlier += engine.earlier_seconds

    def _compare(
        self,
        base: Program,
        program: Program,
        mask: Mask,
        dense: Mapping[str, float] | None,
        folder: RunFolder,
        without: tuple[str, ...],
    ) -> RunResult:
        """The outcome: ``program`` under ``mask`` against ``base``, the network as it was."""
        config, task = self._config, self._task
        compact = program.compact(mask)
        of_masked, of_compact = task.compare(program.zeroed(mask), compact)
        of_dense = of_masked if config.method == "none" else dense or {}
        measured: dict[str, Any] = {}
        if self._processes.is_main:
            mask.save(folder.mask)
            atofx.save(program, mask, folder.compact)
            times = latencies_ms([base.module, compact], task.example(config.latency_batch), Rounds())
            verified = program.verify(mask)
            measured = {"times": times, "verified": {"ok": verified.ok, **asdict(verified)}}
        measured = json.loads(self._processes.agree(json.dumps(measured)))
        dense_ms, compact_ms = map(Spread.of, measured["times"])
        target = target_of(config, base)
        result = RunResult(
            scores=tuple(
                Score(f.name, f.title, of_dense.get(f.name), of_masked[f.name], of_compact[f.name])
                for f in task.figures
            ),
            words=task.words,
            flops_dense=base.flops(),
            flops_compact=program.flops(mask),
            params_dense=base.params(),
            params_compact=program.params(mask),
            latency_dense_ms=dense_ms.median,
            latency_compact_ms=compact_ms.median,
            latency_batch=config.latency_batch,
            speedup=Spread.of(pairwise(*measured["times"])).median,
            agreement=100.0,
            flops_target=target.flops if target else 1.0,
            p_target=target.p if target else 1.0,
            seconds=self._earlier + time.perf_counter() - self._began,
            folder=str(folder.path),
            freeze=config.freeze,
            only=config.only,
            granularity=program.options.granularity,
            latency_dense_quartiles_ms=(dense_ms.lower, dense_ms.upper),
            latency_compact_quartiles_ms=(compact_ms.lower, compact_ms.upper),
            verification=Verification(tolerance=TOLERANCE, **measured["verified"]),
            layers=_layers_without(base, program, mask, without) if without else _layers(base, program, mask),
            flops_masked=None if program is base else program.flops(),
            params_masked=None if program is base else program.params(),
            without=without,
        )
        if self._processes.is_main:
            result.save(folder.result)
            write_run_report(folder.path)
        return result

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _layers(base: Program, program: Program, mask: Mask) -> tuple[LayerFlops, ...]:
    """Every layer before and after; a wider graph has the names of the one it was made from."""
    after = {cost.node: cost.flops for cost in program.layer_costs(mask)}
    return tuple(LayerFlops(cost.name, cost.op, cost.flops, after.get(cost.node, 0)) for cost in base.layer_costs())


def _layers_without(base: Program, program: Program, mask: Mask, without: tuple[str, ...]) -> tuple[LayerFlops, ...]:
    """The same where blocks are gone: a graph without them may have other names for its functions."""
    after = base.layer_costs(carried(program.prunable, base.prunable, mask, missing=True))
    gone = {node.name for block in base.blocks.skippable if block.name in without for node in block.region}
    return tuple(
        LayerFlops(old.name, old.op, old.flops, 0 if old.node in gone else new.flops)
        for old, new in zip(base.layer_costs(), after, strict=True)
    )
