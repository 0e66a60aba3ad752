"""What a run ends with: numbers for machines and a table for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from atofx.ir.files import write_whole
from atofx.train.task import Words


@dataclass(frozen=True)
class LayerFlops:
    """FLOPs (multiply-adds of one sample, counted once) of one layer before and after."""

    name: str
    op: str
    dense: int
    compact: int


@dataclass(frozen=True)
class Verification:
    """Whether compact, zeroed and gated model agree, and costs are as predicted.

    Attributes:
        ok: the verdict.
        error: largest relative error in float64.
        tolerance: the largest that is allowed.
        flops_predicted, flops_counted: multiply-adds by the cost model and by fvcore on the compact model.
        params_predicted, params_counted: parameters by the cost model and in the compact model.
    """

    ok: bool
    error: float
    tolerance: float
    flops_predicted: int
    flops_counted: int
    params_predicted: int
    params_counted: int


@dataclass(frozen=True)
class Score:
    """One figure on the test data, in percent.

    Attributes:
        name: in files and records, such as ``top1``.
        title: in tables.
        dense: of the dense baseline; None if none was trained.
        masked: of the trained network with the dropped units at zero.
        compact: of the compact model.
    """

    name: str
    title: str
    dense: float | None
    masked: float
    compact: float


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run. FLOPs are fused multiply-adds counted once, for one sample (an image, a sequence).

    Attributes:
        scores: the figures of the task; the first one is its main one.
        words: what the things of the task are called.
        flops_dense: of the dense network, as it was before a method widened it.
        flops_compact: of the compact model.
        params_dense: parameters of the dense network.
        params_compact: parameters of the compact model.
        latency_dense_ms: median time of a forward pass of ``latency_batch`` samples, dense.
        latency_compact_ms: the same, compact.
        latency_dense_quartiles_ms: between which times the middle half of the passes lies, dense.
        latency_compact_quartiles_ms: the same, compact.
        latency_batch: samples per timed forward pass.
        speedup: how many times faster compact is: median of dense time / compact time, round by round.
        agreement: percent of the test data on which masked and compact model give the same answer; less than 100
            is an error.
        flops_target: kept fraction of the whole model that was asked for.
        p_target: the same as a fraction of the prunable part.
        seconds: wall time of the run, interruptions not counted.
        folder: where everything is.
        freeze: patterns of what kept its shape.
        only: patterns of what alone could be pruned; None: everything.
        granularity: what attention lost, by pattern on module names.
        verification: what :meth:`atofx.Program.verify` says of the mask, in float64.
        layers: every layer that has FLOPs, in the order of the graph.
        flops_masked: of the network with the dropped units at zero, where that was widened or lost blocks; None:
            ``flops_dense``.
        params_masked: its parameters; None: ``params_dense``.
        without: names of residual blocks that were left out as a whole.
    """

    scores: tuple[Score, ...]
    words: Words
    flops_dense: int
    flops_compact: int
    params_dense: int
    params_compact: int
    latency_dense_ms: float
    latency_compact_ms: float
    latency_batch: int
    speedup: float
    agreement: float
    flops_target: float
    p_target: float
    seconds: float
    folder: str
    freeze: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    granularity: tuple[tuple[str, str], ...] = ()
    latency_dense_quartiles_ms: tuple[float, float] | None = None
    latency_compact_quartiles_ms: tuple[float, float] | None = None
    verification: Verification | None = None
    layers: tuple[LayerFlops, ...] = ()
    flops_masked: int | None = None
    params_masked: int | None = None
    without: tuple[str, ...] = ()

    @property
    def dense_top1(self) -> float | None:
        """Top-1 of the dense baseline on images, in percent; None if none was trained."""
        return self._score("top1").dense

    @property
    def masked_top1(self) -> float:
        """Top-1 of the trained network with the dropped units at zero, in percent."""
        return self._score("top1").masked

    @property
    def compact_top1(self) -> float:
        """Top-1 of the compact model, in percent."""
        return self._score("top1").compact

    def _score(self, name: str) -> Score:
        for score in self.scores:
            if score.name == name:
                return score
        raise AttributeError(f"this run has no {name}, but {', '.join(score.name for score in self.scores)}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; every score also as ``dense_NAME``, ``masked_NAME`` and ``compact_NAME``."""
        flat = {f"{kind}_{s.name}": getattr(s, kind) for s in self.scores for kind in ("dense", "masked", "compact")}
        return {**flat, **dataclasses.asdict(self)}

    def save(self, path: Path) -> None:
        """Write JSON, at once or not at all.

        Raises:
            FileError: it cannot be written.
        """
        write_whole(path, json.dumps(self.to_dict(), indent=1).encode() + b"\n")

    @property
    def is_steady(self) -> bool:
        """Whether the middle half of the timed passes lies within a fifth of their median, dense and compact."""
        timed = (
            (self.latency_dense_quartiles_ms, self.latency_dense_ms),
            (self.latency_compact_quartiles_ms, self.latency_compact_ms),
        )
        return all(quartiles is None or quartiles[1] - quartiles[0] <= median / 5 for quartiles, median in timed)

    def table(self) -> Table:
        """Dense, masked and compact side by side."""
        note = "" if self.is_steady else "; times vary much (a busy machine?), so their ratio is uncertain"
        titles = [score.title for score in self.scores]
        table = Table(
            caption=f"{' and '.join(titles)} on the {self.words.tested}; FLOPs: multiply-adds of one "
            f"{self.words.sample}, counted once{note}"
        )
        table.add_column("")
        for heading in (*titles, "FLOPs", "parameters", f"latency, batch {self.latency_batch}"):
            table.add_column(heading, justify="right")
        dense = ["-" if score.dense is None else f"{score.dense:.2f} %" for score in self.scores]
        flops, params = _millions(self.flops_dense), _millions(self.params_dense)
        latency = f"{self.latency_dense_ms:.2f} ms"
        table.add_row("dense", *dense, flops, params, latency)
        if self.flops_masked is not None and self.params_masked is not None:
            flops, params, latency = _millions(self.flops_masked), _millions(self.params_masked), "-"
        table.add_row("masked", *(f"{score.masked:.2f} %" for score in self.scores), flops, params, latency)
        table.add_row(
            "compact",
            *(f"{score.compact:.2f} %" for score in self.scores),
            f"{_millions(self.flops_compact)} ({self.flops_compact / self.flops_dense:.1%})",
            f"{_millions(self.params_compact)} ({self.params_compact / self.params_dense:.1%})",
            f"{self.latency_compact_ms:.2f} ms ({self.speedup:.2f} x)",
        )
        return table


def _millions(count: int) -> str:
    return f"{count / 1e6:.3f} M" if count < 1e7 else f"{count / 1e6:.1f} M"
