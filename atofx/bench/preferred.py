"""Which widths a back end likes: found by measuring it once, remembered per machine and back end."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from atofx.bench.backend import BACKENDS, check
from atofx.bench.interleave import Rounds, interleave
from atofx.bench.machine import this_machine
from atofx.bench.setting import BackendName, Setting, place_inputs, place_model
from atofx.bench.spread import Spread
from atofx.errors import ConfigError, FileError
from atofx.ir.files import write_whole

#: Multiples to choose from, and widths that are such multiples but of no larger one; 96 on average.
WIDTHS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {1: (93, 99), 2: (94, 98), 4: (92, 100), 8: (88, 104), 16: (80, 112), 32: (96,)}
)
#: A multiple is good enough if a multiply-add takes at most this much longer than with the best one.
TOLERANCE = 0.05
_ROUNDS = Rounds(most=60, seconds=6.0)
_SIDE = 14
_FORMAT = "atofx-widths/1"


@dataclass(frozen=True)
class Preference:
    """What a back end likes here.

    Attributes:
        multiple: the smallest number that widths should be multiples of.
        slowness: for each candidate, time of a multiply-add (counted once) relative to the best one.
    """

    multiple: int
    slowness: Mapping[int, float]


class _Probe(nn.Module):
    """Layers whose channels are all of one width."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        groups = width if kind == "depthwise" else 1
        kernel = 1 if kind == "pointwise" else 3
        self.first = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(torch.relu(self.first(x)))
        return y

    @property
    def flops(self) -> int:
        """Multiply-adds of a sample, counted once."""
        return sum(layer.weight.numel() for layer in (self.first, self.second)) * _SIDE**2


_KINDS = ("dense", "pointwise", "depthwise")


def preferred_multiple(setting: Setting, rounds: Rounds = _ROUNDS, cache: Path | None = None) -> Preference:
    """What widths should be multiples of in this setting, on this machine.

    Convolutions of every kind and width take turns; a multiple counts as slow as its layers are, per multiply-add, on
    average over kinds. The answer is kept in ``cache``, so a machine is measured once for each back end.

    Args:
        setting: back end, dtype, device, memory format, batch (1 if None).
        rounds: how often each layer is run.
        cache: the file; None: ``atofx/widths.json`` in the user's folder for such files.

    Raises:
        ConfigError: the back end is missing here.
    """
    check(setting)
    file = cache or _cache_file()
    key = _key(setting)
    known = _read(file)
    if key not in known:
        known[key] = {str(multiple): slowness for multiple, slowness in _measured(setting, rounds).items()}
        _write(file, known)
    slowness = {int(multiple): value for multiple, value in known[key].items()}
    return Preference(min(m for m, slow in slowness.items() if slow <= 1 + TOLERANCE), MappingProxyType(slowness))


def _measured(setting: Setting, rounds: Rounds) -> dict[int, float]:
    places = [(multiple, width, kind) for multiple, widths in WIDTHS.items() for width in widths for kind in _KINDS]
    probes = [_Probe(width, kind) for _, width, kind in places]
    runs = [_run(probe, width, setting) for probe, (_, width, _) in zip(probes, places, strict=True)]
    times = [Spread.of(seconds).lower for seconds in interleave(runs, rounds)]  # other work makes the rest longer
    per_kind: dict[tuple[str, int], list[float]] = {}
    for (multiple, _, kind), probe, seconds in zip(places, probes, times, strict=True):
        per_kind.setdefault((kind, multiple), []).append(seconds / probe.flops)
    means = {place: math.fsum(values) / len(values) for place, values in per_kind.items()}
    best = {kind: min(means[kind, multiple] for multiple in WIDTHS) for kind in _KINDS}
    total = {multiple: math.fsum(means[kind, multiple] / best[kind] for kind in _KINDS) for multiple in WIDTHS}
    least = min(total.values())
    return {multiple: round(value / least, 4) for multiple, value in total.items()}


def _run(probe: _Probe, width: int, setting: Setting) -> Callable[[], Any]:
    example = torch.randn(setting.batch or 1, width, _SIDE, _SIDE)
    (run,) = BACKENDS[setting.backend].prepare([place_model(probe, setting)], place_inputs(example, setting))
    return run


def _key(setting: Setting) -> str:
    machine = this_machine(setting.device)
    parts = (machine.processor, f"{machine.threads} threads", f"torch {machine.torch}", setting.backend)
    return ", ".join((*parts, setting.dtype, setting.memory_format, f"batch {setting.batch or 1}"))


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "atofx" / "widths.json"


def _read(file: Path) -> dict[str, dict[str, float]]:
    """What was measured before; a file that is not one of ours is refused, a missing one is empty."""
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        measured: dict[str, dict[str, float]] = found["measured"] if isinstance(found, dict) else {}
        wanted = {str(multiple) for multiple in WIDTHS}
        sound = [entry.keys() == wanted and min(entry.values()) == 1 for entry in measured.values()]
        if not isinstance(found, dict) or found["format"] != _FORMAT or not all(sound):
            raise ValueError("it holds something else")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"cannot use {str(file)!r}, the measured widths of this machine: {error}; delete it"
        ) from error
    return measured


def _write(file: Path, measured: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"format": _FORMAT, "measured": measured}, indent=1).encode() + b"\n")
    except (OSError, FileError) as error:
        raise ConfigError(f"cannot keep the measured widths in {str(file)!r}: {error}; set XDG_CACHE_HOME") from error


def round_to_number(text: str | int, setting: Setting) -> int:
    """The number that ``round_to`` stands for: itself, or what ``auto`` (or ``auto:BACKEND``) finds on this machine.

    Args:
        text: as the user wrote it.
        setting: where the model is to run; ``auto:BACKEND`` takes another back end.

    Raises:
        ConfigError: it is neither, or the back end is missing here.
    """
    word, colon, _ = str(text).partition(":")
    backend = named_backend(text) or (None if colon else setting.backend)
    if word == "auto" and backend is not None:
        return preferred_multiple(replace(setting, backend=backend)).multiple
    if colon or not word.isdecimal() or int(word) < 1:
        raise ConfigError(
            f"round_to {text!r} is no number of channels of at least 1, nor auto or auto:BACKEND with one of "
            f"{', '.join(BACKENDS)}"
        )
    return int(word)


def named_backend(text: str | int) -> BackendName | None:
    """The back end that ``auto:BACKEND`` names, if it is one."""
    asked = str(text).partition(":")[2]
    return next((name for name in BACKENDS if name == asked), None)
