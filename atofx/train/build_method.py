"""The method that a configuration names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from atofx.errors import ConfigError
from atofx.methods import ATO, Method, PruningFromScratch, Schedule, Targets, targets
from atofx.methods.protocol import Search
from atofx.train.config import TrainConfig
from atofx.train.oneshot import OneShot

if TYPE_CHECKING:
    from atofx.program import Program

_CRITERIA = ("l1", "l2", "bn-scale", "taylor", "random")


def check_method(name: str) -> None:
    """Refuse an unknown method, before any data is read.

    Raises:
        ConfigError: the message offers the nearest.
    """
    known = ("ato", "scratch", "none", *_CRITERIA)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"no method {name!r}; {hint}")


def build_search(config: TrainConfig, program: Program, base: Program) -> Search | None:
    """What looks for a structure before the training; None for methods that decide while the network trains.

    Args:
        config: options.
        program: of the network that is searched.
        base: of the network as it was before it was widened; FLOPs targets mean that one.

    Raises:
        ConfigError: options that do not fit the model.
        TargetError: the FLOPs target cannot be reached.
    """
    if config.method != "scratch":
        return None
    options = config.scratch
    return PruningFromScratch(
        program,
        target_of(config, base).flops,
        base_flops=base.flops(),
        groups=options.groups,
        limits=config.limits,
        r=options.r,
        lmd=options.lmd,
        lr=options.lr,
        seed=config.seed,
    )


def build_method(config: TrainConfig, program: Program, steps_per_epoch: int) -> Method | None:
    """The training method; None for dense training.

    Raises:
        ConfigError: options that do not fit the model.
        TargetError: the FLOPs target cannot be reached.
    """
    check_method(config.method)
    total_steps = config.epochs * steps_per_epoch
    if config.method == "none":
        return None
    target = target_of(config, program)
    if config.method == "ato":
        options = config.ato
        return ATO(
            program,
            flops=config.target.get("flops"),
            p=config.target.get("p"),
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            groups=options.groups,
            every=options.every,
            controller_lr=options.controller_lr,
            lmd=options.lmd,
            projection=options.projection,
            reg_w=options.reg_w,
            limits=config.limits,
            schedule=Schedule(options.t_start, options.t_w, options.t_lambda, options.t_decay, options.t_end),
            seed=config.seed,
        )
    target.require_reachable()
    prune_step = min(total_steps - 1, round(config.oneshot.prune_at * total_steps))
    return OneShot(
        program,
        flops=target.flops,
        criterion=config.method,
        scope=config.oneshot.scope,
        prune_step=prune_step,
        limits=config.limits,
        seed=config.seed,
    )


def target_of(config: TrainConfig, program: Program) -> Targets:
    """The FLOPs target in both spellings, ``flops`` of the whole model and ``p`` of its prunable part."""
    groups = {"ato": config.ato.groups, "scratch": config.scratch.groups}.get(config.method)
    return targets(program, groups=groups, limits=config.limits, **config.target)
