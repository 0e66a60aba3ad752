"""The method that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from atofx.errors import ConfigError, did_you_mean
from atofx.methods import (
    ATO,
    DHSPG,
    HESSO,
    HSPG,
    TAS,
    DHSPGSchedule,
    GroupFilter,
    HESSOSchedule,
    HSPGSchedule,
    Kind,
    Method,
    PruningFromScratch,
    Schedule,
    SparseOptimizer,
    Targets,
    targets,
)
from atofx.methods.protocol import LossFn, Search
from atofx.passes.widen import Factors
from atofx.train.config import TrainConfig
from atofx.train.oneshot import OneShot
from atofx.train.optimizer_method import OptimizerMethod
from atofx.train.optimizers import optimizer_of

if TYPE_CHECKING:
    from atofx.ir.limits import Limits
    from atofx.program import Program


_CRITERIA = ("l1", "l2", "bn-scale", "taylor", "random")


def check_method(name: str) -> None:
    """Refuse an unknown method, before any data is read.

    Raises:
        ConfigError: the message offers the nearest.
    """
    known = (*_BUILDERS, *_OPTIMIZERS, *_SEARCHES, "none", *_CRITERIA)
    if name not in known:
        hint = did_you_mean(name, known, f" (known: {', '.join(known)})")
        raise ConfigError(f"no method {name!r}{hint}")


def build_search(config: TrainConfig, program: Program, base: Program, steps: int) -> Search:
    """What looks for a structure before the training.

    Args:
        config: options.
        program: of the network that is searched.
        base: of the network as it was before it was widened; FLOPs targets mean that one.
        steps: length of the search.

    Raises:
        ConfigError: options that do not fit the model.
        TargetError: the FLOPs target cannot be reached.
    """
    return _SEARCHES[config.method](config, program, base, steps)


def expansion_of(config: TrainConfig) -> Factors:
    """How much wider than the user's a network is that is searched; 1 where none is."""
    return getattr(config.search, "expand", 1.0)


def build_method(config: TrainConfig, program: Program, steps_per_epoch: int, loss_fn: LossFn) -> Method | None:
    """The training method; None for dense training.

    Args:
        config: options.
        program: of the network that is trained.
        steps_per_epoch: optimizer steps in one pass over the training samples.
        loss_fn: (output, targets) -> scalar, for methods that look at gradients of their own.

    Raises:
        ConfigError: options that do not fit the model.
        TargetError: the FLOPs target cannot be reached.
    """
    check_method(config.method)
    if config.method == "none":
        return None
    if config.method in _OPTIMIZERS:
        return _optimizer_method(config, program, config.epochs * steps_per_epoch)
    return _BUILDERS.get(config.method, _one_shot)(config, program, steps_per_epoch, loss_fn)


def target_of(config: TrainConfig, program: Program) -> Targets | None:
    """The FLOPs target in both spellings, ``flops`` of the whole model and ``p`` of its prunable part.

    None for dense training, and where a target group sparsity or the penalty decides how much goes.
    """
    options: Any = getattr(config, config.method, None)  # one-shot criteria and dense training have none of their own
    is_free = getattr(options, "sparsity", None) is not None or getattr(options, "target", "flops") == "none"
    if config.method == "none" or is_free:
        return None
    return targets(program, groups=getattr(options, "groups", None), limits=config.limits, **config.target)


def _ato(config: TrainConfig, program: Program, steps_per_epoch: int, loss_fn: LossFn) -> Method:
    options = config.ato
    return ATO(
        program,
        flops=config.target.get("flops"),
        p=config.target.get("p"),
        total_steps=config.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        groups=options.groups,
        every=options.every,
        controller_lr=options.controller_lr,
        lmd=options.lmd,
        projection=options.projection,
        reg_w=options.reg_w,
        limits=config.limits,
        schedule=Schedule(options.t_start, options.t_w, options.t_lambda, options.t_decay, options.t_end),
        loss_fn=loss_fn,
        seed=config.seed,
    )


def _one_shot(config: TrainConfig, program: Program, steps_per_epoch: int, loss_fn: LossFn) -> Method:
    total_steps = config.epochs * steps_per_epoch
    target = target_of(config, program)
    assert target is not None
    target.require_reachable()
    return OneShot(
        program,
        flops=target.flops,
        criterion=config.method,
        scope=config.oneshot.scope,
        prune_step=min(total_steps - 1, round(config.oneshot.prune_at * total_steps)),
        limits=config.limits,
        seed=config.seed,
        loss_fn=loss_fn,
    )


def _tas(config: TrainConfig, program: Program, base: Program, steps: int) -> Search:
    options, target = config.tas, target_of(config, base)
    assert target is not None
    return TAS(
        program,
        target.flops,
        total_steps=steps,
        search=options.search,
        groups=options.groups,
        limits=config.limits,
        ratios=options.ratios,
        lmd=options.lmd,
        tolerance=options.tolerance,
        temperature=options.temperatures,
        lr=options.lr,
        weight_decay=options.weight_decay,
        optimizer=lambda parameters: optimizer_of(config, parameters),
        seed=config.seed,
    )


def _scratch(config: TrainConfig, program: Program, base: Program, steps: int) -> Search:
    options, target = config.scratch, target_of(config, base)
    assert target is not None
    return PruningFromScratch(
        program,
        target.flops,
        base_flops=base.flops(),
        groups=options.groups,
        limits=config.limits,
        r=options.r,
        lmd=options.lmd,
        lr=options.lr,
        seed=config.seed,
    )


class _Common(TypedDict):
    """What all optimizers of the OTO family take."""

    total_steps: int
    flops: float | None
    groups: GroupFilter
    limits: Limits


def _optimizer_method(config: TrainConfig, program: Program, total_steps: int) -> Method:
    """A method that is an optimizer; made once on a spare base, so that what is wrong is said before the training."""
    target = target_of(config, program)
    common = _Common(
        total_steps=total_steps,
        flops=None if target is None else target.flops,
        groups=getattr(config, config.method).groups,
        limits=config.limits,
    )
    make = _OPTIMIZERS[config.method]
    make(config, torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0), program, common)
    return OptimizerMethod(lambda base: make(config, base, program, common))


def _hspg(config: TrainConfig, base: torch.optim.Optimizer, program: Program, common: _Common) -> SparseOptimizer:
    options = config.hspg
    return HSPG(
        base,
        program,
        sparsity=options.sparsity,
        lmd=options.lmd,
        kind=Kind(options.epsilon, options.cap, adaptive=options.adaptive),
        kinds={pattern: Kind(k.epsilon, k.cap, adaptive=k.adaptive) for pattern, k in options.kinds.items()},
        first_stage=options.first_stage,
        schedule=HSPGSchedule(
            t_half_space=options.t_half_space,
            t_decide=options.t_decide,
            t_end=options.t_end,
            lmd_drops=options.lmd_drops,
            lmd_gamma=options.lmd_gamma,
            adapt_every=options.adapt_every,
        ),
        **common,
    )


def _dhspg(config: TrainConfig, base: torch.optim.Optimizer, program: Program, common: _Common) -> SparseOptimizer:
    options = config.dhspg
    return DHSPG(
        base,
        program,
        sparsity=options.sparsity,
        tolerance=options.tolerance,
        lmd=options.lmd,
        amplify=options.amplify,
        cap=options.cap,
        epsilon=options.epsilon,
        score_momentum=options.score_momentum,
        schedule=DHSPGSchedule(options.t_partition, options.t_half_space, options.t_fade, options.t_end),
        **common,
    )


def _hesso(config: TrainConfig, base: torch.optim.Optimizer, program: Program, common: _Common) -> SparseOptimizer:
    options = config.hesso
    return HESSO(
        base,
        program,
        sparsity=options.sparsity,
        schedule=HESSOSchedule(options.t_start, options.t_end, options.periods),
        **common,
    )


_BUILDERS: Mapping[str, Callable[[TrainConfig, Program, int, LossFn], Method]] = MappingProxyType({"ato": _ato})
_OPTIMIZERS: Mapping[str, Callable[[TrainConfig, torch.optim.Optimizer, Program, _Common], SparseOptimizer]] = (
    MappingProxyType({"hspg": _hspg, "dhspg": _dhspg, "hesso": _hesso})
)
_SEARCHES: Mapping[str, Callable[[TrainConfig, Program, Program, int], Search]] = MappingProxyType(
    {"scratch": _scratch, "tas": _tas}
)
