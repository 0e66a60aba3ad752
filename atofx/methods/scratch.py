"""Pruning from Scratch: the structure is learned on random weights, then trained from new ones.

Source: Wang et al., *Pruning from Scratch*, AAAI 2020, and its authors' code; ``docs/methods/scratch.md`` says where
this differs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from atofx.errors import ConfigError, TargetError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.ir.mask import Mask
from atofx.methods import parallel
from atofx.methods.calibrate import TOLERANCE as WARN_BEYOND
from atofx.methods.calibrate import calibrate
from atofx.methods.protocol import Batch, BatchSource, LossFn, StateValue, call
from atofx.methods.selection import GroupFilter, UnitSpace, select
from atofx.methods.targets import targets

if TYPE_CHECKING:
    from atofx.program import Program

TOLERANCE = 1e-3
_TIE = 1e-9  # below the distance of any two gates that differ


def sparsity_loss(gates: torch.Tensor, r: float) -> torch.Tensor:
    """``(mean(|g|) - r)^2`` over the gates of the whole network, not layer by layer.

    Args:
        gates: (units,), all of them.
        r: wanted mean.
    """
    return (gates.abs().mean() - r) ** 2


def budget_epochs(epochs: int, kept: float) -> int:
    """Epochs that cost as much as ``epochs`` of the dense network (Scratch-B): ``int(epochs / kept)``.

    Args:
        epochs: of the dense network.
        kept: fraction of its FLOPs (multiply-adds counted once) that the compact network has.
    """
    return int(epochs / kept + 1e-9)


class PruningFromScratch:
    """Learns one gate per unit on frozen random weights; the mask is one threshold over all of them.

    ::

        search = PruningFromScratch(program, flops=0.5)
        for epoch in range(10):
            for x, y in loader:
                search.step((x, y))
            search.evaluate(accuracy_of(search.network))  # on validation images, percent
        small = program.compact(search.mask())
        atofx.nn.renew_(small, seed=0, init="he")  # and train it from these weights

    Every gate begins at 1. :meth:`step` takes one step of Adam on ``task(gated network) + lmd (mean|g| - r)^2`` and
    clamps the gates to [0, 1]. Only gates learn: the network is a copy with fixed weights, in train mode (batch
    statistics), so the user's model, its running statistics included, stays as it is. Gates stand behind norms and
    before activations where the graph allows (``program.gated(places="norms")``).

    The mask keeps the units with the largest gates of the whole network, as many as the FLOPs target allows: the
    published bisection, which goes on to the single unit here. Every group keeps at least what the limits allow. Equal
    gates are ranked at random.

    Args:
        program: the traced model; of a wider one (:meth:`Program.widen`) where channels are expanded.
        flops: kept fraction of ``base_flops`` (multiply-adds counted once).
        base_flops: FLOPs that the target is a fraction of, those of the *unexpanded* network; None: of the program.
        groups: which prunable groups get gates (see ``select``); others stay whole.
        limits: minimum widths and rounding.
        r: wanted mean of the gates, 0 to 1; also the largest share of non-zero gates of a snapshot that counts.
        lmd: weight of the gates' loss (0.5 for CIFAR, 0.05 for ImageNet).
        lr: of Adam.
        loss_fn: task loss, plain cross-entropy by default.
        seed: of the order of equal gates.

    Raises:
        ConfigError: a value out of range.
        TargetError: no mask comes down to the target.
    """

    def __init__(
        self,
        program: Program,
        flops: float,
        *,
        base_flops: int | None = None,
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
        r: float = 0.2,
        lmd: float = 0.5,
        lr: float = 0.01,
        loss_fn: LossFn = functional.cross_entropy,
        seed: int = 0,
    ) -> None:
        _check(flops=flops, r=r, lmd=lmd, lr=lr)
        self.program = program
        self.base_flops = int(program.flops()) if base_flops is None else base_flops
        self.flops = flops * self.base_flops / int(program.flops())
        if self.flops > 1:
            raise ConfigError(f"base_flops={base_flops} are more than the {program.flops()} of the network itself")
        self._space = UnitSpace(select(program, groups))
        if not self._space.groups:
            raise TargetError(
                "no group of the model may be pruned (program.summary() and `atofx inspect` say what is pinned and why)"
            )
        targets(program, flops=self.flops, groups=groups, limits=limits).require_reachable(TOLERANCE)
        self.limits = limits
        self.r = r
        self.lmd = lmd
        self.loss_fn = loss_fn
        self.seed = seed
        self._network = copy.deepcopy(program.gated(places="norms")).requires_grad_(False).train()
        self._device = next((p.device for p in self._network.parameters()), torch.device("cpu"))
        self._network.to(self._device)
        self._buffers = {name for name, _ in program.module.named_buffers()}  # not those of the gates
        self._gates = nn.Parameter(torch.ones(self._space.total, device=self._device))
        self._optimizer = torch.optim.Adam([self._gates], lr=lr)
        self._snapshot: torch.Tensor | None = None
        self._best = -1.0
        self._step = 0
        self._logged: dict[str, float] = {}

    @property
    def network(self) -> nn.Module:
        """The gated copy with the gates as they are now, for measuring accuracy; in train mode between calls."""
        self._network.set_mask(self._space.split(self._gates.detach()))
        return self._network

    @property
    def gates(self) -> torch.Tensor:
        """The gates that decide (units,): the best snapshot's, the present ones while there is none. On the CPU."""
        chosen = self._gates.detach() if self._snapshot is None else self._snapshot
        return chosen.cpu().clone()

    @property
    def steps(self) -> int:
        """Steps done."""
        return self._step

    def step(self, batch: Batch, held_out: BatchSource | None = None) -> None:
        """One step of the gates on ``(inputs, targets)``; held-out images are not learned on."""
        inputs, labels = batch
        self._network.train()
        with torch.enable_grad():
            self._network.set_mask(self._space.split(self._gates))
            output = call(self._network, inputs)
            task = self.loss_fn(output, labels)
            loss = task.float() + self.lmd * sparsity_loss(self._gates, self.r)
            (gradient,) = parallel.average(torch.autograd.grad(loss, [self._gates]), self._device)
        self._network.set_mask(None)
        self._gates.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            self._gates.clamp_(0, 1)
        self._step += 1
        self._logged = {"loss": float(loss.detach()), "task": float(task.detach())}

    def evaluate(self, accuracy: float) -> None:
        """Note a validation accuracy of :attr:`network`: the best of those with at most ``r`` open gates decides.

        Args:
            accuracy: in any unit, higher is better, not negative; the same on every process.
        """
        if self.open_share <= self.r and accuracy > self._best:
            self._best = accuracy
            self._snapshot = self._gates.detach().clone()

    @property
    def open_share(self) -> float:
        """Fraction of the gates that are not zero now."""
        return float((self._gates.detach() != 0).double().mean())

    def mask(self) -> Mask:
        """The units above one threshold on the gates, so many that the FLOPs target is met."""
        noise = torch.rand(self._space.total, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        scores = self._space.split(self.gates.double() + _TIE * noise)
        return calibrate(
            self.program,
            self._space.groups,
            scores,
            self.flops,
            tolerance=TOLERANCE,
            limits=self.limits,
            warn_beyond=WARN_BEYOND,
        ).mask

    def without(self) -> tuple[str, ...]:
        """All blocks stay."""
        return ()

    def metrics(self) -> dict[str, float]:
        """Mean and open share of the gates, the last losses, and the best accuracy of a snapshot (if there is one)."""
        numbers = {"gate_mean": float(self._gates.detach().mean()), "gates_open": self.open_share, **self._logged}
        return numbers if self._snapshot is None else {**numbers, "snapshot": self._best}

    def state_dict(self) -> dict[str, StateValue]:
        """Flat: tensors and numbers. Loading it beside the same weights continues bit for bit."""
        state: dict[str, StateValue] = {
            "step": self._step,
            "best": self._best,
            "units": self._space.total,
            "gates": self._gates.detach().clone(),
        }
        if self._snapshot is not None:
            state["snapshot"] = self._snapshot.clone()
        for name, value in self._optimizer.state_dict()["state"].get(0, {}).items():
            state[f"adam.{name}"] = torch.as_tensor(value).clone()
        state.update({f"buffer.{name}": buffer.clone() for name, buffer in self._statistics().items()})
        return state

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            ConfigError: the state was saved for another model.
        """
        if state.get("units") != self._space.total:
            raise ConfigError(
                f"this state belongs to a model with {state.get('units')} gated units, here are {self._space.total}"
            )
        tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        step, best = state["step"], state["best"]
        assert isinstance(step, int)
        assert isinstance(best, (int, float))
        self._step, self._best = step, float(best)
        self._snapshot = tensors["snapshot"].to(self._device) if "snapshot" in tensors else None
        adam = {name.removeprefix("adam."): t.clone() for name, t in tensors.items() if name.startswith("adam.")}
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": {0: adam} if adam else {}})
        with torch.no_grad():
            self._gates.copy_(tensors["gates"])
            for name, buffer in self._statistics().items():
                buffer.copy_(tensors[f"buffer.{name}"])

    def _statistics(self) -> dict[str, torch.Tensor]:
        return {name: buffer for name, buffer in self._network.named_buffers() if name in self._buffers}


def _check(*, flops: float, r: float, lmd: float, lr: float) -> None:
    if not 0 < flops <= 1:
        raise ConfigError(f"flops={flops} is not a kept fraction; it lies in (0, 1], 0.5 keeps half of the FLOPs")
    if not 0 < r <= 1:
        raise ConfigError(f"r={r} is not a mean of gates; it lies in (0, 1]")
    if lmd < 0 or lr <= 0:
        raise ConfigError(f"lmd={lmd} must not be negative, lr={lr} must be above 0")
