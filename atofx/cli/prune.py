"""``atofx prune``: one look at the weights, a FLOPs target, a compact model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from atofx.bench import Setting
from atofx.bench.latency_target import fit_latency
from atofx.bench.preferred import named_backend
from atofx.bench.setting import BackendName
from atofx.cli import models, options, output
from atofx.cli.assignments import assign
from atofx.cli.cut_folder import MASK, RESULT, WEIGHTS, check_cut_folder, measure, save_cut, save_result
from atofx.cli.limits import limits_from
from atofx.cli.multiple import multiple_of
from atofx.cli.tracing import traced
from atofx.errors import ConfigError
from atofx.ir.mask import Mask
from atofx.methods import oneshot
from atofx.methods.shares import Scope
from atofx.program import Program
from atofx.report.text import prune_text
from atofx.train.named_model import is_factory

if TYPE_CHECKING:
    from atofx.cli.finetune import Workbench

FINETUNE = "finetune"  # beside the other files in the folder of --out

Criterion = Literal["l2", "l1", "bn-scale", "taylor", "random"]


def run(
    model: options.Model,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help=f"Folder for {MASK}, {WEIGHTS} and {RESULT}; made if missing.")
    ],
    flops: Annotated[
        float | None, typer.Option(help="Kept fraction of the whole model's FLOPs.  [default: 0.5]")
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(help="Instead of --flops: share of the dense model's time on this machine, met by measuring."),
    ] = None,
    backend: Annotated[
        BackendName | None,
        typer.Option(help="What --latency and --round-to auto run on.  [default: that of auto:BACKEND, or eager]"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Inputs in a timed pass.  [default: as in the example input]")
    ] = None,
    criterion: Annotated[Criterion, typer.Option(help="How units are ranked; taylor needs --data.")] = "l2",
    scope: Annotated[
        Scope,
        typer.Option(
            help="Rank units over the whole network, keep the same share of every group, or less of groups that move "
            "more memory for their multiply-adds (faster at the same FLOPs)."
        ),
    ] = "global",
    groups: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Prune only groups of these names (* and ?); repeatable."),
    ] = None,
    freeze: options.Freeze = None,
    only: options.Only = None,
    granularity: options.Granularity = None,
    round_to: options.RoundTo = "1",
    min_units: options.MinUnits = 1,
    min_width: options.MinWidth = 1,
    min_keep: options.MinKeep = 0.0,
    limit: options.Limit = None,
    data: Annotated[
        str | None,
        typer.Option(help="digits, cifar10, cifar100 or folder:PATH: measure accuracy; sets input shape and classes."),
    ] = None,
    finetune: Annotated[int, typer.Option(metavar="EPOCHS", min=0, help="Train the compact model on --data.")] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of `atofx train` for the fine-tune: lr=0.01."),
    ] = None,
    weights: options.Weights = None,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    frontend: options.Frontend = "auto",
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Remove the least important units of a trained model down to a FLOPs target, in one step.

    The folder then holds the mask, the compact model's weights (for atofx.load) and the numbers printed here.
    """
    if flops is not None and latency is not None:
        raise ConfigError("--flops and --latency each say how much is cut; give one of them")
    if latency is None and round_to.isdecimal() and (backend is not None or batch is not None):
        raise ConfigError("--backend and --batch say how --latency and --round-to auto measure; neither is given")
    check_cut_folder(out)
    setting = Setting(backend or named_backend(round_to) or "eager", batch)
    multiple = multiple_of(round_to, setting)
    limits = limits_from(round_to=multiple, min_units=min_units, min_width=min_width, min_keep=min_keep, limit=limit)
    if finetune and (out / FINETUNE).exists():
        raise ConfigError(
            f"{out / FINETUNE} holds an earlier fine-tune; remove it, or choose another folder with --out"
        )
    if data is not None and input_shape:
        raise ConfigError("--data sets the input shape; leave out --input-shape")
    chosen = {"model": model, "model_args": models.parse_arguments(arg or ()), "data": data, "seed": seed}
    bench = None if data is None else _workbench({**chosen, "epochs": max(1, finetune)}, assignments or [])
    if bench is None:
        _refuse_without_data(finetune, assignments, criterion)
        loaded = models.load(model, weights=weights, shapes=input_shape, arguments=arg, seed=seed)
    else:
        loaded = bench.model(weights)
    program = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
    batches = bench.gradient_batches() if bench is not None and criterion == "taylor" else ()

    def mask_at(kept: float) -> Mask:
        return oneshot(program, kept, criterion, scope=scope, batches=batches, groups=groups, limits=limits, seed=seed)

    fit = None if latency is None else fit_latency(program, latency, mask_at, setting)
    mask = mask_at(0.5 if flops is None else flops) if fit is None else fit.mask
    if not loaded.trained and criterion != "random":
        output.warn(_untrained(model, criterion))
    if (out / MASK).exists():
        output.warn(f"the cut that was in {out} is replaced")
    save_cut(program, mask, out)
    traced_with = {**asdict(program.options), "limits": limits.to_dict()}
    result = {"model": loaded.name, "criterion": criterion, "scope": scope, **traced_with, **measure(program, mask)}
    if fit is not None:
        if fit.share.median >= 1:
            output.warn("the compact model is not faster than the dense one here, though within 5 % of the target")
        result["latency"] = {"wanted": latency, **asdict(fit.share), **asdict(setting)}
    if bench is not None:
        result |= _try_out(bench, program, mask, out, epochs=finetune)
    save_result(result, out)
    output.emit(result, prune_text(result, loaded.title, out), as_json=as_json)


def _workbench(options: dict[str, Any], assignments: list[str]) -> Workbench:
    from atofx.cli.finetune import Workbench  # the training engine takes seconds to import

    extra: dict[str, Any] = {}
    for assignment in assignments:
        assign(extra, assignment)
    return Workbench.open(options, extra)


def _untrained(model: str, criterion: str) -> str:
    if is_factory(model):
        return f"no --weights: unless {model} loads trained ones itself, {criterion} ranks noise"
    beside = Path(model) / WEIGHTS  # of a Hugging Face checkpoint
    which = f"those of the folder with --weights {beside}" if beside.is_file() else "trained ones with --weights"
    return f"{model} has random weights, so {criterion} ranks noise; load {which}"


def _refuse_without_data(epochs: int, assignments: list[str] | None, criterion: str) -> None:
    wanted = {"--finetune": epochs, "--set": assignments, "--criterion taylor": criterion == "taylor"}
    for option, given in wanted.items():
        if given:
            raise ConfigError(f"{option} needs images: add --data digits, cifar10, cifar100 or folder:PATH")


def _try_out(bench: Workbench, program: Program, mask: Mask, out: Path, *, epochs: int) -> dict[str, Any]:
    """Accuracies before, right after and (with a fine-tune) well after the cut; the file gets the tuned weights."""
    from atofx.cli.finetune import replace_tensors

    compact = program.compact(mask)
    pruned = bench.top1(compact)
    if epochs:
        bench.train(compact, out / FINETUNE, Console(stderr=True))
        replace_tensors(out / WEIGHTS, compact)
    return {
        "data": bench.data.name,
        "finetune_epochs": epochs,
        "dense_top1": bench.top1(program.module),
        "pruned_top1": pruned,
        "compact_top1": bench.top1(compact) if epochs else pruned,
    }
