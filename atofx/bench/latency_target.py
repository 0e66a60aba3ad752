"""A mask that meets a latency target on this machine: the FLOPs target is moved until the measured time fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from atofx.bench.backend import BACKENDS, check
from atofx.bench.interleave import Clock, Rounds, interleave
from atofx.bench.setting import Setting, place_inputs, place_model
from atofx.bench.spread import Spread, pairwise
from atofx.errors import ConfigError, TargetError
from atofx.ir.mask import Mask
from atofx.passes.clean import clean

if TYPE_CHECKING:
    from atofx.program import Program

#: Largest relative distance of the measured from the wanted time.
TOLERANCE = 0.05
_TRIES = 14
_SECOND_LOOKS = 3  # at the nearest candidates, when the search is over
_NARROW = 0.004  # kept FLOPs between which nothing more is looked for
_ROUNDS = Rounds(seconds=2.0)


class _Tried(NamedTuple):
    """A FLOPs target, and the share of the dense model's time that its compact model took."""

    flops: float
    took: float


@dataclass(frozen=True, eq=False)
class LatencyFit:
    """A mask whose compact model takes the wanted share of the dense model's time.

    Attributes:
        mask: the mask.
        flops: the FLOPs target (kept fraction) that gave it.
        share: compact time / dense time, pair by pair, measured once more after the search.
    """

    mask: Mask
    flops: float
    share: Spread


def fit_latency(
    program: Program,
    share: float,
    mask_at: Callable[[float], Mask],
    setting: Setting,
    rounds: Rounds = _ROUNDS,
    clock: Clock = time.perf_counter,
) -> LatencyFit:
    """Find a mask with which the compact model takes ``share`` of the dense model's time here, within 5 %.

    Norms are folded into convolutions in both models, which take turns; nothing is predicted, every candidate is run.

    Args:
        program: the traced model.
        share: wanted compact time / dense time, above 0 and below 1.
        mask_at: kept fraction of the FLOPs (multiply-adds counted once) -> mask; TargetError where there is none.
        setting: back end, batch, dtype, device.
        rounds: how often both models run for every candidate.
        clock: seconds since any moment.

    Raises:
        TargetError: no mask comes that near; the message says what the nearest takes.
        ConfigError: the share is out of range, or the back end is missing here.
    """
    if not 0 < share < 1:
        raise ConfigError(f"a latency target is a share of the dense model's time above 0 and below 1, not {share}")
    check(setting)
    inputs = place_inputs(program.example_inputs, setting)
    backend = BACKENDS[setting.backend]
    (dense,) = backend.prepare([place_model(clean(program.module), setting)], inputs)

    def measured(mask: Mask) -> Spread:
        (compact,) = backend.prepare([place_model(clean(program.compact(mask)), setting)], inputs)
        both = interleave([dense, compact], rounds, clock)
        return Spread.of(pairwise(both[1], both[0]))

    def again(flops: float) -> LatencyFit | None:
        """The mask of that target, if it takes the wanted time in a second measurement."""
        mask = mask_at(flops)
        found = measured(mask)
        return LatencyFit(mask, flops, found) if abs(found.median / share - 1) <= TOLERANCE else None

    tried: list[_Tried] = []
    why = "widths come in steps, and some are slower than larger ones"
    for flops in _candidates(share, tried):
        try:
            tried.append(_Tried(flops, measured(mask_at(flops)).median))
        except TargetError as error:
            if not tried:
                raise TargetError(f"no mask takes {share:.0%} of the dense model's time here: {error}") from error
            why = "no smaller mask is allowed"
            break
        if abs(tried[-1].took / share - 1) <= TOLERANCE / 2 and (fit := again(flops)):
            return fit
    for near in sorted(tried, key=lambda t: abs(t.took - share))[:_SECOND_LOOKS]:
        if abs(near.took / share - 1) <= TOLERANCE:
            if fit := again(near.flops):
                return fit
            why = "but not when measured again: the machine is busy, or its clock unsteady"
    raise _unreachable(share, tried, why)


def _candidates(share: float, tried: Sequence[_Tried]) -> Iterator[float]:
    """FLOPs to try, by what those before took: between the nearest that were too fast and too slow."""
    flops = share
    for _ in range(_TRIES):
        yield flops
        fast = max((t for t in tried if t.took <= share), default=None)
        slow = min((t for t in tried if t.took > share), default=_Tried(1.0, 1.0))
        if fast is None:
            flops = max(0.5 * slow.flops, slow.flops * share / slow.took - _NARROW)
            continue
        if abs(slow.flops - fast.flops) < _NARROW:
            return
        part = (share - fast.took) / max(slow.took - fast.took, 1e-9)
        flops = fast.flops + (slow.flops - fast.flops) * min(0.9, max(0.1, part))


def _unreachable(share: float, tried: Sequence[_Tried], why: str) -> TargetError:
    flops, took = min(tried, key=lambda t: abs(t.took - share))
    return TargetError(
        f"no mask takes {share:.0%} of the dense model's time here, within {TOLERANCE:.0%}: the nearest keeps "
        f"{flops:.1%} of the FLOPs and takes {took:.0%} ({why}). Try another target or rounding, or a quiet machine"
    )
