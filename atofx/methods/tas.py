"""Transformable Architecture Search: widths and depths are searched by gradients, beside the weights of one network.

Source: Dong and Yang, *Network Pruning via Transformable Architecture Search*, NeurIPS 2019, and its authors' code;
``docs/methods/tas.md`` says where this differs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from atofx.errors import ConfigError, TargetError
from atofx.gates import Widths
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.ir.mask import Mask
from atofx.ir.patterns import covers
from atofx.methods import parallel
from atofx.methods.calibrate import TOLERANCE as REACHED
from atofx.methods.candidates import RATIOS, Choice, depths_of, widths_of
from atofx.methods.cost_term import cost_term
from atofx.methods.derive import Derivation, Derived, unreachable_by_depth
from atofx.methods.gumbel import draw_all, draw_two
from atofx.methods.optimizer_state import flat_state, load_flat_state
from atofx.methods.protocol import Batch, BatchSource, LossFn, StateValue, call, draw
from atofx.methods.selection import GroupFilter, select
from atofx.methods.state_values import number, tensor, under
from atofx.methods.targets import unreachable
from atofx.methods.temperature import Temperature

if TYPE_CHECKING:
    from atofx.ir.blocks import Stage
    from atofx.ir.groups import Group
    from atofx.program import Program

Searched = Literal["width", "depth", "shape"]
"""What is searched: widths of groups, depths of stages, or both."""
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
_SPREAD = 0.01  # of the first logits
_BETAS = (0.5, 0.999)
_NET, _WEIGHTS, _LOGITS = "net.", "weights.", "logits."


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The published optimizer of the weights: rate 0.1, Nesterov momentum 0.9, weight decay 5e-4."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


class TAS:
    """Learns how probable every width of every group and every depth of every stage is, while the weights learn, too.

    ::

        search = TAS(program, flops=0.5, total_steps=10 * len(loader))
        for epoch in range(10):
            for batch, held_out in zip(loader, other_loader):
                search.step(batch, held_out)
        small = program.without_blocks(search.without())  # the blocks that go
        ...  # search.mask(), carried to its groups, is what it keeps

    A step samples for every group two of its candidate widths by Gumbel-softmax (equations 3 and 4) and mixes them by
    channel-wise interpolation, each with a norm of its own (:meth:`Program.mixed`); for every stage of residual blocks
    all candidate depths. It first trains the weights on the batch, then, with new samples, the logits by Adam on
    ``task + lmd cost`` of the held-out batch; ``cost`` is that of :func:`~atofx.methods.cost_term.cost_term`, with the
    expected FLOPs of the plain softmax of the logits. The user's model stays as it is.

    Args:
        program: the traced model; its weights are where the search begins.
        flops: kept fraction of its FLOPs (multiply-adds counted once).
        total_steps: length of the search.
        search: what is searched.
        groups: which prunable groups have widths to choose from (see ``select``); others stay whole.
        limits: minimum widths and rounding; candidates keep to them.
        ratios: candidate widths as shares of a group.
        lmd: weight of the cost.
        tolerance: how far below the target costs nothing, as a share of the FLOPs of the whole network.
        temperature: of the Gumbel-softmax.
        lr: of Adam on the logits.
        weight_decay: of Adam on the logits.
        optimizer: makes the optimizer of the weights; its rates fall to zero on a cosine.
        loss_fn: task loss, plain cross-entropy by default.
        seed: of logits and samples.

    Raises:
        ConfigError: a value out of range, or nothing to choose from.
        TargetError: no network comes down to the target.
    """

    def __init__(
        self,
        program: Program,
        flops: float,
        *,
        total_steps: int,
        search: Searched = "shape",
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
        ratios: Sequence[float] = RATIOS,
        lmd: float = 2.0,
        tolerance: float = 0.05,
        temperature: Temperature = Temperature(),  # noqa: B008 (frozen)
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        optimizer: MakeOptimizer = sgd,
        loss_fn: LossFn = functional.cross_entropy,
        seed: int = 0,
    ) -> None:
        _check(flops=flops, total_steps=total_steps, ratios=ratios, lmd=lmd, tolerance=tolerance, lr=lr)
        self.program = program
        self.total = int(program.flops())
        self.target = flops * self.total
        self.tolerance = tolerance
        self.lmd = lmd
        self.temperature = temperature
        self.loss_fn = loss_fn
        self.seed = seed
        self.total_steps = total_steps
        chosen = select(program, groups) if search != "depth" else ()
        self.groups = _group_choices(program, chosen, limits, ratios)
        self.stages = _stage_choices(program) if search != "width" else ()
        blocks = {stage.name: tuple(block.name for block in stage.blocks) for stage in program.blocks.stages}
        self._derivation = Derivation(program, chosen, limits, self.target, tolerance * self.total, blocks)
        self._require(search, limits)
        generator = torch.Generator().manual_seed(seed)
        self._choices = (*self.groups, *self.stages)
        count = sum(len(choice.candidates) for choice in self._choices)
        widths = {choice.name: choice.candidates for choice in self.groups}
        depths = {choice.name: choice.candidates for choice in self.stages}
        self._network = copy.deepcopy(program.mixed(widths, depths)).train()
        self._weights = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._device = self._weights[0].device if self._weights else torch.device("cpu")
        self._logits = nn.Parameter((_SPREAD * torch.randn(count, generator=generator)).to(self._device))
        self._optimizer = optimizer(self._weights)
        self._rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._adam = torch.optim.Adam([self._logits], lr=lr, betas=_BETAS, weight_decay=weight_decay)
        self._step = 0
        self._logged: dict[str, float] = {}
        self._derived: tuple[int, Derived] | None = None

    def _require(self, search: Searched, limits: Limits) -> None:
        """Make sure that there is something to choose from, and that the target can be met."""
        if search == "depth" and not self.stages:
            raise TargetError("the model has no stage of residual blocks that could be shallower (program.blocks)")
        if search != "depth" and not self.groups:
            raise TargetError("no group of the model may be pruned (program.summary() says what is pinned and why)")
        shallowest = self._derivation.without(self.stages, [0] * len(self.stages))
        allowed = limits.allowed_counts(self.program.prunable)
        fewest = {choice.name: torch.arange(choice.size) < allowed[choice.name][0] for choice in self.groups}
        least = int(self.program.flops(fewest, blocks=dict.fromkeys(shallowest, False)))
        if search == "depth" and least > self.target:
            raise unreachable_by_depth(self.target, least, self.total)
        if search != "depth" and least > self.target * (1 + REACHED):
            raise unreachable(self.target / self.total, least, self.total, limits)

    # ---------------------------------------------------------------- learning

    @property
    def steps(self) -> int:
        """Steps done."""
        return self._step

    def step(self, batch: Batch, held_out: BatchSource) -> None:
        """One step of the weights on ``(inputs, targets)``, one of the logits on held-out ones."""
        self._network.train()
        done = self._step / self.total_steps
        temperature = self.temperature.at(done)
        with torch.enable_grad():
            self._sample(2 * self._step, temperature, self._logits.detach())
            loss = self._task(batch)
            gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
            self._train_weights(gradients, (1 + math.cos(math.pi * done)) / 2)
            self._sample(2 * self._step + 1, temperature, self._logits)
            task = self._task(draw(held_out))
            expected, present = self.expected_flops(), self._present_flops()
            cost = cost_term(expected / 1e6, present, self.target, self.tolerance * self.total)
            whole = task + self.lmd * cost.to(task)
            (gradient,) = torch.autograd.grad(whole, [self._logits], allow_unused=True, materialize_grads=True)
        self._network.choose({}, {})
        (self._logits.grad,) = parallel.average([gradient], self._device)
        self._adam.step()
        self._adam.zero_grad()
        self._step += 1
        self._logged = {
            "loss": float(loss.detach()),
            "held_out_loss": float(task.detach()),
            "cost": float(cost.detach()),
            "expected_flops": float(expected.detach()) / self.total,
            "temperature": temperature,
        }

    def _sample(self, number_of_draw: int, temperature: float, logits: Tensor) -> None:
        """Widths and depths of one forward pass: a function of seed, draw and logits, the same on every process."""
        generator = torch.Generator().manual_seed((self.seed << 32) + 1 + number_of_draw)
        parts = self._split(logits)
        widths, depths = {}, {}
        for choice in self.groups:
            drawn = draw_two(parts[choice], temperature, generator)
            widths[choice.name] = Widths(tuple(choice.candidates[i] for i in drawn.indices), drawn.weights)
        for choice in self.stages:
            depths[choice.name] = draw_all(parts[choice], temperature, generator)
        self._network.choose(widths, depths)

    def _task(self, batch: Batch) -> Tensor:
        inputs, labels = batch
        return self.loss_fn(call(self._network, inputs), labels).float()

    def _train_weights(self, gradients: Sequence[Tensor | None], factor: float) -> None:
        used = [(weight, grad) for weight, grad in zip(self._weights, gradients, strict=True) if grad is not None]
        averaged = parallel.average([gradient for _, gradient in used], self._device) if used else []
        for (weight, _), gradient in zip(used, averaged, strict=True):
            weight.grad = gradient
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.step()
        self._optimizer.zero_grad()

    # ---------------------------------------------------------------- the present state

    def probabilities(self) -> dict[str, Tensor]:
        """Softmax of the logits of every group and stage, (candidates,); on the device of the model."""
        return {choice.name: p.detach() for choice, p in self._probabilities().items()}

    def _probabilities(self) -> dict[Choice, Tensor]:
        return {choice: torch.softmax(part, 0) for choice, part in self._split(self._logits).items()}

    def _split(self, logits: Tensor) -> dict[Choice, Tensor]:
        parts = torch.split(logits, [len(choice.candidates) for choice in self._choices])
        return dict(zip(self._choices, parts, strict=True))

    def expected_flops(self) -> Tensor:
        """FLOPs of the expected widths, every block weighed by the probability that its stage is so deep; float64."""
        probabilities = {choice: p.cpu() for choice, p in self._probabilities().items()}
        soft = {choice.name: choice.probability_of_each(probabilities[choice]) for choice in self.groups}
        blocks = {
            name: share
            for choice in self.stages
            for name, share in zip(
                self._derivation.blocks[choice.name], choice.probability_of_each(probabilities[choice]), strict=True
            )
        }
        return torch.as_tensor(self.program.flops(soft, blocks=blocks), dtype=torch.float64)

    def _argmax(self) -> dict[Choice, int]:
        return {choice: int(p.argmax()) for choice, p in self._probabilities().items()}

    def _present_flops(self) -> float:
        """FLOPs of the most probable network."""
        best = self._argmax()
        mask = {choice.name: choice.keeps[best[choice]].bool() for choice in self.groups}
        without = self._derivation.without(self.stages, [best[choice] for choice in self.stages])
        return float(self.program.flops(mask, blocks=dict.fromkeys(without, False)))

    @property
    def network(self) -> nn.Module:
        """The searched network with the most probable width of every group and depth of every stage."""
        best = self._argmax()
        one = torch.ones(1, device=self._device)
        widths = {choice.name: Widths((choice.candidates[best[choice]],), one) for choice in self.groups}
        depths = {
            choice.name: functional.one_hot(torch.tensor(best[choice]), len(choice.candidates)).to(one)
            for choice in self.stages
        }
        self._network.choose(widths, depths)
        return self._network

    def evaluate(self, accuracy: float) -> None:
        """Nothing: the last state decides, as published."""

    # ---------------------------------------------------------------- the decision

    def mask(self) -> Mask:
        """What is kept of the groups of the whole program: on target, together with :meth:`without`."""
        return self._decision().mask

    def without(self) -> tuple[str, ...]:
        """Names of the residual blocks that go."""
        return self._decision().without

    def _decision(self) -> Derived:
        """The most probable depths and widths; the least sure units go, or come, until the target is met."""
        if self._derived is None or self._derived[0] != self._step:
            self._derived = (self._step, self._derive())
        return self._derived[1]

    def _derive(self) -> Derived:
        probabilities = {choice: p.detach().cpu() for choice, p in self._probabilities().items()}
        deep = [probabilities[choice] for choice in self.stages]
        if not self.groups:
            without = self._derivation.depths_alone(self.stages, deep)
            return Derived(self.program.full_mask(), without)
        scores = {
            choice.name: choice.position_of_each(probabilities[choice])
            + choice.keeps[int(probabilities[choice].argmax())]
            for choice in self.groups
        }
        refused: TargetError | None = None
        for without in self._derivation.depths(self.stages, deep):
            try:
                return Derived(self._derivation.widths(without, scores), without)
            except TargetError as error:
                refused = error
        raise refused or TargetError("no depth reaches the target")

    # ---------------------------------------------------------------- records

    def metrics(self) -> dict[str, float]:
        """Losses, temperature, expected FLOPs and those of the most probable network, as shares of the whole one."""
        return {**self._logged, "argmax_flops": self._present_flops() / self.total}

    def state_dict(self) -> dict[str, StateValue]:
        """Flat: tensors, numbers and text. Loading it continues bit for bit."""
        state: dict[str, StateValue] = {"step": self._step, "logits": self._logits.detach().clone()}
        state.update({f"{_NET}{name}": value.clone() for name, value in self._network.state_dict().items()})
        state.update({f"{_WEIGHTS}{name}": value for name, value in flat_state(self._optimizer).items()})
        state.update({f"{_LOGITS}{name}": value for name, value in flat_state(self._adam).items()})
        return state

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            ConfigError: the state was saved for another model, or with other candidates.
        """
        logits = tensor(state, "logits")
        if logits.shape != self._logits.shape:
            raise ConfigError(
                f"this state belongs to a search among {len(logits)} widths and depths, here are {len(self._logits)}"
            )

        self._step = int(number(state, "step"))
        self._network.load_state_dict(under(state, _NET))
        load_flat_state(self._optimizer, under(state, _WEIGHTS))
        load_flat_state(self._adam, under(state, _LOGITS))
        self._derived = None
        with torch.no_grad():
            self._logits.copy_(logits)


def _group_choices(
    program: Program, groups: Sequence[Group], limits: Limits, ratios: Sequence[float]
) -> tuple[Choice, ...]:
    allowed = limits.allowed_counts(program.prunable)
    choices = []
    for group in groups:
        legal = allowed[group.name]
        nearest = (int(legal[(legal - width).abs().argmin()]) for width in widths_of(group.size, ratios))
        widths = tuple(sorted(set(nearest)))
        choices.append(Choice(group.name, widths, widths, group.size))
    return tuple(choices)


def _stage_choices(program: Program) -> tuple[Choice, ...]:
    """Stages with more than one depth to choose from; blocks that are to keep their shapes stay."""
    choices = []
    for stage in program.blocks.stages:
        least = _least_blocks(program, stage)
        depths = [depth for depth in depths_of(len(stage.depths)) if stage.kept_blocks(depth) >= least]
        if len(depths) > 1:
            kept = tuple(map(stage.kept_blocks, depths))
            choices.append(Choice(stage.name, tuple(depths), kept, len(stage.blocks)))
    return tuple(choices)


def _least_blocks(program: Program, stage: Stage) -> int:
    """How many of the blocks must stay because of ``freeze`` and ``only``."""
    freeze, only = program.options.freeze, program.options.only

    def is_fixed(name: str) -> bool:
        frozen = any(covers(pattern, name) for pattern in freeze)
        return frozen or (only is not None and not any(covers(pattern, name) for pattern in only))

    fixed = [i + 1 for i, block in enumerate(stage.blocks) if any(map(is_fixed, block.parameters))]
    return max(fixed, default=0)


def _check(*, flops: float, total_steps: int, ratios: Sequence[float], lmd: float, tolerance: float, lr: float) -> None:
    if not 0 < flops <= 1:
        raise ConfigError(f"flops={flops} is not a kept fraction; it lies in (0, 1], 0.5 keeps half of the FLOPs")
    if total_steps < 1:
        raise ConfigError(f"total_steps={total_steps}: a search takes at least one step")
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise ConfigError(f"ratios={tuple(ratios)} are shares of a group's width, above 0 and up to 1")
    if lmd < 0 or lr <= 0 or not 0 <= tolerance < 1:
        raise ConfigError(f"lmd={lmd} must not be negative, lr={lr} above 0, tolerance={tolerance} in [0, 1)")
