"""``atofx bench``: dense against compact, on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args

import torch
import typer
from torch import nn

from atofx import storage
from atofx.bench import Rounds, all_settings
from atofx.bench.files import PLOT, REPORT, write
from atofx.bench.machine import pinned_threads
from atofx.bench.report import Pair, measure
from atofx.bench.setting import BackendName, Device, MemoryFormat, Precision
from atofx.bench.text import bench_text, warnings_of
from atofx.cli import models, options, output
from atofx.cli.multiple import multiple_of
from atofx.cli.tracing import traced, traced_for
from atofx.errors import ConfigError
from atofx.ir.files import check_writable
from atofx.ir.limits import Limits
from atofx.ir.mask import Mask
from atofx.methods import oneshot
from atofx.methods.shares import Scope
from atofx.passes.clean import clean
from atofx.program import Program

_FLOPS = 0.5
_SHARES: Mapping[Scope, str] = MappingProxyType(
    {
        "global": "ranked over the whole network",
        "uniform": "the same share of every group",
        "traffic": "less of groups that move more memory",
    }
)


def _among(kind: Any) -> str:
    return "|".join(get_args(kind))


def _chosen(option: str, texts: Sequence[str], kind: Any) -> tuple[Any, ...]:
    """Repeated options as literals: typer checks single ones only."""
    for text in texts:
        if text not in get_args(kind):
            raise ConfigError(f"{option} {text!r} is not one of {', '.join(get_args(kind))}")
    return tuple(texts)


def run(
    model: options.Model,
    flops: Annotated[
        float | None, typer.Option(help=f"Keep so much of the FLOPs, the largest channels (l2). [default: {_FLOPS}]")
    ] = None,
    scope: Annotated[
        Scope | None,
        typer.Option(help="How much each group keeps; see `atofx prune --help`. [default: uniform]"),
    ] = None,
    mask: options.MaskFile = None,
    compact: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A compact model, as `atofx prune` and `atofx train` write it."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar=_among(BackendName), help="What runs the models; repeatable. [default: eager]"),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Inputs in a pass; repeatable. [default: as in the example input]")
    ] = None,
    memory_format: Annotated[
        list[str] | None,
        typer.Option(metavar=_among(MemoryFormat), help="Order of images; repeatable. [default: contiguous]"),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(metavar=_among(Precision), help="Of weights and inputs; repeatable. [default: float32]"),
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Where the models run. [default: cuda where there is a GPU]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of one operation. [default: as PyTorch chooses]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each setting, once it is warm.")] = 3.0,
    rounds: Annotated[
        int, typer.Option(min=1, help="Most timed passes of each model (of each of its --copies) in a setting.")
    ] = 100,
    copies: Annotated[
        int,
        typer.Option(min=1, help="Copies of both models to time, each so long: where weights lie in memory matters."),
    ] = 1,
    layers: Annotated[int, typer.Option(min=0, help="Layers to show of those that lose most; 0 times none.")] = 8,
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Fold batch norms into convolutions first, in both models.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help=f"Folder for {REPORT} and {PLOT}; made if missing.")
    ] = None,
    round_to: options.RoundTo = "1",
    freeze: options.Freeze = None,
    only: options.Only = None,
    granularity: options.Granularity = None,
    weights: options.Weights = None,
    input_shape: options.InputShape = None,
    arg: options.ModelArgument = None,
    frontend: options.Frontend = "auto",
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Time the dense and the compact model in turn, and compare with what the FLOPs promise.

    Realised is dense time / compact time over dense FLOPs / compact FLOPs: 1 where time shrinks as FLOPs do. Without
    --mask and --compact, l2 ranks the channels, and --scope says how much of each group is kept. With --mask, --freeze,
    --only and --granularity are those of the run that wrote it, unless given; --compact brings its own. The dense model
    is the whole one, also where a run left out residual blocks.
    """
    _one_of(flops, mask, compact)
    if out is not None:
        check_writable(out)
    place: Device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    settings = all_settings(
        _chosen("--backend", backend or ["eager"], BackendName),
        batch or (None,),
        _chosen("--memory-format", memory_format or ["contiguous"], MemoryFormat),
        _chosen("--dtype", dtype or ["float32"], Precision),
        place,
    )
    loaded = models.load(model, weights=weights, shapes=input_shape, arguments=arg, seed=seed)
    if compact is not None:
        _refuse_with_compact(freeze, only, granularity, round_to, scope)
        saved = storage.read(compact, lambda: loaded.module, loaded.inputs)
        found = _Found(saved.whole, saved.program, saved.mask, saved.module.eval(), str(compact))
    elif mask is not None:
        if round_to != "1" or scope is not None:
            raise ConfigError("--mask says what was cut; leave out --round-to and --scope")
        whole, program = traced_for(mask, loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
        chosen = Mask.load(mask)
        found = _Found(whole, program, chosen, program.compact(chosen), str(mask))
    else:
        program = traced(loaded, frontend=frontend, freeze=freeze, only=only, granularity=granularity)
        with pinned_threads(threads):
            multiple = multiple_of(round_to, settings[0])
        found = _cut(program, _FLOPS if flops is None else flops, scope or "uniform", multiple)
    timed = Rounds(least=min(5, rounds), most=rounds, seconds=seconds)
    with pinned_threads(threads):
        report = measure(
            _pair(found, fold=fold), settings, timed, copies=copies, profile_rounds=timed if layers else None
        )
    title = f"{loaded.title}, {found.origin}"
    data = {"model": loaded.name, "mask": found.origin, "folded": fold, **report.to_dict()}
    for warning in warnings_of(report):
        output.warn(warning)
    if out is not None and not write(data, report, out, title):
        output.warn(f"no {PLOT}: it needs matplotlib (pip install matplotlib)")
    output.emit(data, bench_text(report, title, most_layers=layers), as_json=as_json)


@dataclass(frozen=True, eq=False)
class _Found:
    """The whole model, the one a mask is of, the mask, what it leaves, and in words where that comes from."""

    whole: Program
    program: Program
    mask: Mask
    compact: nn.Module
    origin: str


def _one_of(flops: float | None, mask: Path | None, compact: Path | None) -> None:
    sources = {"--flops": flops, "--mask": mask, "--compact": compact}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} each say what is cut; give one of them")


def _refuse_with_compact(
    freeze: Sequence[str] | None,
    only: Sequence[str] | None,
    granularity: Sequence[str] | None,
    round_to: str,
    scope: Scope | None,
) -> None:
    chosen = {
        "--freeze": freeze,
        "--only": only,
        "--granularity": granularity,
        "--round-to": round_to != "1",
        "--scope": scope,
    }
    given = [name for name, value in chosen.items() if value]
    if given:
        raise ConfigError(f"the file of --compact says what was cut, and how; leave out {', '.join(given)}")


def _cut(program: Program, flops: float, scope: Scope, round_to: int) -> _Found:
    mask = oneshot(program, flops, "l2", scope=scope, limits=Limits(round_to=round_to))
    return _Found(program, program, mask, program.compact(mask), f"l2, {_SHARES[scope]}")


def _pair(found: _Found, *, fold: bool) -> Pair:
    whole, program = found.whole, found.program
    dense, compact = whole.module, found.compact
    if fold:
        dense, compact = clean(dense), clean(compact)
    flops = (int(whole.flops()), int(program.flops(found.mask)))
    params = (int(whole.params()), int(program.params(found.mask)))
    return Pair(dense, compact, whole.example_inputs, flops, params)
