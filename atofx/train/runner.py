"""A run from its configuration to its result: data, model, baseline, training, comparison, files."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor, nn

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
from atofx.train.data import load_data
from atofx.train.distill import BASELINE, Teacher, load_teacher
from atofx.train.engine import Engine, training_order
from atofx.train.evaluation import compare, logits_of, top1
from atofx.train.models import resolve_model
from atofx.train.network import Dense
from atofx.train.processes import Processes
from atofx.train.result import LayerFlops, RunResult, Verification
from atofx.train.run_folder import RunFolder, check, choose, prepare
from atofx.train.search_data import SearchData
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
        with processes.one_by_one() if config.data.startswith("cifar") else nullcontext():
            self._data = load_data(config, processes.device)
        if len(self._data.train) < count:
            raise ConfigError(f"{len(self._data.train)} training images cannot be shared by {count} processes")

    def execute(self) -> RunResult:
        """All of it."""
        config = self._config
        model = self._model()
        base = self._trace(model)
        self._describe(base)
        model, program = self._widened(model, base)
        options, method = config.search, None
        if options is not None:
            images = SearchData(config, options, self._data, self._processes.share)
            search = build_search(config, program, base, images.steps)
        else:
            steps = training_order(config, self._data, self._processes).steps_per_epoch
            method = build_method(config, program, steps)
        folder = RunFolder(Path(self._processes.agree(str(choose(config)))))
        teacher = None if config.distill in (None, BASELINE) else self._teacher(Path(str(config.distill)).expanduser())
        self._prepare(folder, config)
        dense_top1 = self._baseline(folder) if config.baseline and config.method != "none" else None
        if config.distill == BASELINE:
            teacher = self._teacher(folder.baseline.path)
        self._say(f"Training in {folder.path}")
        without: tuple[str, ...] = ()
        if options is not None:
            shared = (self._processes, folder, self._console, teacher)
            found = TwoPhases(config, options, self._data, images, *shared).run(search, program, base, model)
            program, mask, without = found.program, found.mask, found.without
            self._earlier += found.earlier_seconds
        else:
            network = Dense(model, program)
            self._fit(
                Engine(config, self._data, network, method, self._processes, folder, self._console, teacher=teacher)
            )
            mask = program.full_mask() if method is None else method.mask()
        result = self._compare(base, program, mask, dense_top1, folder, without)
        self._processes.wait()
        self._console.print(result.table())
        self._say(f"Everything is in {folder.path}")
        return result

    def _trace(self, model: nn.Module) -> Program:
        config = self._config
        return atofx.trace(
            model,
            self._noise(1),
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

    def _model(self) -> nn.Module:
        config, data = self._config, self._data
        rng.seed_all(config.seed)
        model = resolve_model(config.model, len(data.classes), data.channels, data.image_size)
        model.to(self._processes.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        training = model.training
        images = self._noise(1)
        try:
            with torch.no_grad():
                logits = logits_of(model.eval()(images))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the model is the user's
            raise ConfigError(
                f"{config.model} does not run on the images of {data.name}, {tuple(images.shape)}: {error}; take "
                "another model, let its factory take in_channels, or give another image_size"
            ) from error
        model.train(training)
        if logits.shape[1] != len(data.classes):
            raise ConfigError(
                f"{config.model} scores {logits.shape[1]} classes, {data.name} has {len(data.classes)}; "
                "let the factory take num_classes"
            )
        return model

    def _noise(self, count: int) -> Tensor:
        size = self._data.image_size
        shape = (count, self._data.channels, size, size)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self._processes.device)
        return images.contiguous(memory_format=torch.channels_last) if self._config.channels_last else images

    def _describe(self, program: Program) -> None:
        config, data = self._config, self._data
        self._say(
            f"{config.model}: {program.params():,} parameters, {program.flops():,} FLOPs (multiply-adds of one image, "
            f"counted once); {data.name}: {len(data.train):,} training and {len(data.test):,} test images of "
            f"{data.channels} x {data.image_size} x {data.image_size}, {len(data.classes)} classes; "
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
            except ConfigError as error:
                trouble = str(error)
        trouble = self._processes.agree(trouble)
        if trouble:
            raise ConfigError(trouble)

    def _baseline(self, folder: RunFolder) -> float:
        """Top-1 of the dense network after the same training; it starts from the same weights."""
        config = self._config.updated(method="none", baseline=False, distill=None, out=str(folder.baseline.path))
        self._prepare(folder.baseline, config)
        self._say(f"Training the dense baseline in {folder.baseline.path}")
        model = self._model()
        self._fit(Engine(config, self._data, Dense(model), None, self._processes, folder.baseline, self._console))
        return top1(model, self._data.test, config.eval_batch_size, self._processes)

    def _teacher(self, path: Path) -> Teacher:
        return load_teacher(path, self._config, self._data, self._processes.device)

    def _fit(self, engine: Engine) -> None:
        engine.fit()
        self._earlier += engine.earlier_seconds

    def _compare(
        self,
        base: Program,
        program: Program,
        mask: Mask,
        dense_top1: float | None,
        folder: RunFolder,
        without: tuple[str, ...],
    ) -> RunResult:
        """The outcome: ``program`` under ``mask`` against ``base``, the network as it was."""
        config = self._config
        masked, compact = program.zeroed(mask), program.compact(mask)
        masked_top1, compact_top1 = compare(masked, compact, self._data.test, config.eval_batch_size, self._processes)
        measured: dict[str, Any] = {}
        if self._processes.is_main:
            mask.save(folder.mask)
            atofx.save(program, mask, folder.compact)
            times = latencies_ms([base.module, compact], self._noise(config.latency_batch), Rounds())
            verified = program.verify(mask)
            measured = {"times": times, "verified": {"ok": verified.ok, **asdict(verified)}}
        measured = json.loads(self._processes.agree(json.dumps(measured)))
        dense_ms, compact_ms = map(Spread.of, measured["times"])
        target = target_of(config, base)
        result = RunResult(
            dense_top1=masked_top1 if config.method == "none" else dense_top1,
            masked_top1=masked_top1,
            compact_top1=compact_top1,
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
