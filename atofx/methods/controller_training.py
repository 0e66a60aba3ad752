"""How ATO's controller learns and what it draws: its weights, its optimizer, its random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from atofx.errors import ConfigError
from atofx.gates import ChannelGate
from atofx.methods import parallel
from atofx.methods.controller import Controller
from atofx.methods.optimizer_state import flat_state, load_flat_state
from atofx.methods.protocol import BatchSource, LossFn, StateValue, call, draw
from atofx.methods.resource import resource_loss, weight
from atofx.methods.selection import UnitSpace, soft_flops
from atofx.methods.state_values import tensor, under
from atofx.methods.targets import Targets

if TYPE_CHECKING:
    from atofx.program import Program

WEIGHT_DECAY = 1e-2
_CONTROLLER, _OPTIMIZER = "controller.", "optimizer."


class ControllerTraining:
    """A controller beside the model: trained on the gated model's task and on the FLOPs of hard bits, asked for masks.

    Source: authors' code of *Auto-Train-Once* (CVPR 2024, arXiv 2403.14729). FLOPs are multiply-adds counted once.

    Args:
        program: the traced model.
        space: the units that the controller decides on.
        allowed: the widths that each group may have.
        goal: the FLOPs to reach.
        of_prunable: whether the resource loss is of the prunable part, as in the published runs, or of the whole model.
        reg_w: weight of the resource loss; applied doubled.
        loss_fn: task loss.
        seed: initial weights and draws; the same on every process.
        device: where the model is now.
    """

    def __init__(
        self,
        program: Program,
        space: UnitSpace,
        allowed: Mapping[str, torch.Tensor],
        goal: Targets,
        *,
        of_prunable: bool,
        reg_w: float,
        loss_fn: LossFn,
        seed: int,
        device: Callable[[], torch.device],
    ) -> None:
        self._program, self._space, self._allowed = program, space, allowed
        self._goal, self._of_prunable = goal, of_prunable
        self._reg_w, self._loss_fn, self._device = reg_w, loss_fn, device
        self._controller = Controller(space.sizes, seed=seed)
        self._optimizer = _adamw(self._controller)
        self._generator = torch.Generator().manual_seed(seed)
        self._gated: Any = None

    def step(self, batch: BatchSource, *, lr: float) -> dict[str, float]:
        """One step on ``task(gated model, soft gates) + 2 reg_w R(FLOPs of independent hard straight-through bits)``.

        Returns:
            The losses, the kept FLOPs of the draw, and the mean probability that a unit is kept.
        """
        inputs, labels = draw(batch)
        weights = list(self._controller.parameters())
        device = self._device()
        with torch.enable_grad():
            with _no_autocast():
                logits = self._controller()
                gates = self._controller.soft(logits, self._generator)
                bits = self._controller.hard(logits, self._generator)
                legal = self._space.within(bits.detach() >= 0.5, logits.detach(), self._allowed)
                kept = self._kept_fraction(bits + (legal.to(bits.dtype) - bits).detach())
                resource = resource_loss(kept, self._goal.p if self._of_prunable else self._goal.flops)
                moved = self._space.split(gates.to(device))
            with self._evaluating() as gated:
                gated.set_mask(moved)
                task = self._loss_fn(call(gated, inputs), labels)
                gated.set_mask(None)
            with _no_autocast():
                loss = task.float().cpu() + weight(self._reg_w) * resource.float()
                gradients = parallel.average(torch.autograd.grad(loss, weights), device)
        for parameter, gradient in zip(weights, gradients, strict=True):
            parameter.grad = gradient
        for options in self._optimizer.param_groups:
            options["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            return {
                "controller_loss": float(loss.detach()),
                "controller_task": float(task.detach()),
                "resource_loss": float(resource.detach()),
                "sampled_flops": float(self._overall(kept.detach())),
                "keep_probability": float(self._controller.keep_probability(logits).mean()),
            }

    @torch.no_grad()
    def logits(self) -> torch.Tensor:
        """How strongly each unit is to be kept, flat in the order of the groups."""
        if not self._space.total:
            return torch.zeros(0)
        with _no_autocast():
            logits: torch.Tensor = self._controller()
        return logits

    @torch.no_grad()
    def draw(self) -> torch.Tensor:
        """A random mask from the controller, brought within the limits by its own ranking: no group ends empty."""
        with _no_autocast():
            logits = self._controller()
            bits = self._controller.hard(logits, self._generator) >= 0.5
        return self._space.within(bits, logits, self._allowed)

    def state_dict(self) -> dict[str, StateValue]:
        """Flat: tensors and JSON scalars. Loading it continues bit for bit, draws included."""
        state: dict[str, StateValue] = {"generator": self._generator.get_state()}
        state.update({f"{_CONTROLLER}{name}": value.clone() for name, value in self._controller.state_dict().items()})
        state.update({f"{_OPTIMIZER}{name}": value for name, value in flat_state(self._optimizer).items()})
        return state

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`state_dict`; entries of others are left alone.

        Raises:
            ConfigError: something is missing.
        """
        weights = under(state, _CONTROLLER)
        if not weights:
            raise ConfigError(f"the state holds no {_CONTROLLER!r}; it was not saved by ATO.state_dict")
        self._controller.load_state_dict(weights)
        load_flat_state(self._optimizer, under(state, _OPTIMIZER))
        self._generator.set_state(tensor(state, "generator").cpu())

    def _kept_fraction(self, bits: torch.Tensor) -> torch.Tensor:
        """Kept fraction of the part the target was given for: the whole model, or its prunable part."""
        flops = soft_flops(self._program, self._space, bits.double())
        if not self._of_prunable:
            return flops / self._goal.total
        return (flops - (self._goal.total - self._goal.prunable)) / self._goal.prunable

    def _overall(self, kept: torch.Tensor) -> torch.Tensor:
        if not self._of_prunable:
            return kept
        return (self._goal.total - self._goal.prunable + kept * self._goal.prunable) / self._goal.total

    @contextmanager
    def _evaluating(self) -> Iterator[Any]:
        """The gated model in eval mode (norms use running statistics); every module's own mode comes back."""
        if self._gated is None:
            self._gated = self._program.gated()
            for module in self._gated.modules():
                if isinstance(module, ChannelGate):
                    module.to(self._device())
        modes = [(module, module.training) for module in self._gated.modules()]
        self._gated.eval()
        try:
            yield self._gated
        finally:
            for module, training in modes:
                module.training = training


def _adamw(controller: Controller) -> torch.optim.AdamW:
    """AdamW with weight decay 1e-2 on the GRU's and the heads' weights, none on biases and the layer norm."""
    decayed = [p for name, p in controller.named_parameters() if "weight" in name and not name.startswith("norm.")]
    chosen = {id(p) for p in decayed}
    plain = [p for p in controller.parameters() if id(p) not in chosen]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    )


def _no_autocast() -> torch.autocast:
    """The controller and the costs run on the CPU in full precision, whatever the loop uses for the model."""
    return torch.autocast("cpu", enabled=False)
