"""One-shot pruning: rank the units of a trained model and cut to a FLOPs target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch.nn import functional

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.ir.mask import Mask
from atofx.methods.calibrate import TOLERANCE, calibrate
from atofx.methods.criteria import Data
from atofx.methods.criteria import criterion as find_criterion
from atofx.methods.protocol import Batch
from atofx.methods.selection import GroupFilter, UnitSpace, select
from atofx.methods.shares import Scope, comparable
from atofx.methods.targets import targets

if TYPE_CHECKING:
    from atofx.program import Program


def oneshot(
    program: Program,
    flops: float = 0.5,
    criterion: str = "l2",
    *,
    scope: Scope = "global",
    batches: Iterable[Batch] = (),
    loss_fn: Callable[[Any, Any], torch.Tensor] = functional.cross_entropy,
    groups: GroupFilter = None,
    round_to: int = 1,
    limits: Limits = NO_LIMITS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Mask:
    """A mask keeping ``flops`` of the model's FLOPs (multiply-adds counted once) by one look at the weights.

    Args:
        program: the traced model.
        flops: kept fraction of the whole model's FLOPs.
        criterion: ``l1``, ``l2``, ``bn-scale``, ``taylor`` (needs ``batches``) or ``random``.
        scope: ``"global"`` compares units of all groups (scores divided by their group's mean) with one threshold;
            ``"uniform"`` keeps the same ratio of every group; ``"traffic"`` keeps less of groups that move more memory
            for their multiply-adds, so that more of the FLOPs saved becomes time.
        batches: ``(inputs, targets)`` pairs for criteria with gradients.
        loss_fn: the loss they differentiate.
        groups: which prunable groups may be pruned.
        round_to: kept channels are a multiple of this, in narrow groups of half of it, a quarter, …; short for
            ``limits=Limits(round_to=...)``.
        limits: minimum widths and rounding.
        tolerance: relative; a miss beyond it is warned about.
        seed: for ``random``.

    Raises:
        TargetError: no mask reaches the target; the message says what the least is.
        ConfigError: an argument is unknown or out of range.
        NoValuesError: the model is on the meta device, and the criterion looks at weights.
    """
    if scope not in get_args(Scope):
        raise ConfigError(f"scope={scope!r} is unknown; it is one of {', '.join(get_args(Scope))}")
    if tolerance < 0:
        raise ConfigError(f"tolerance={tolerance} must not be negative")
    find = find_criterion(criterion)
    limits = limits.rounded(round_to)
    wanted = targets(program, flops=flops, groups=groups, limits=limits)
    space = UnitSpace(select(program, groups))
    if not space.groups:
        raise TargetError(
            "no group may be pruned: all are frozen, excluded or pinned; program.summary() and `atofx inspect` say why"
        )
    scores = space.split(find(program, space, Data(batches, loss_fn, seed)))
    ranked = comparable(program, scores, scope)
    return calibrate(program, space.groups, ranked, wanted.flops, tolerance=tolerance, limits=limits).mask
