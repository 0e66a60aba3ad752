"""What the optimizers of the OTO family share: the base optimizer inside, the decision, zeros that stay, the state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from atofx.errors import ConfigError
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.ir.mask import Mask
from atofx.methods import parallel
from atofx.methods.flat import FlatUnits
from atofx.methods.goal import Goal, make_goal
from atofx.methods.optimizer_state import flat_state, load_flat_state
from atofx.methods.phases import require_steps
from atofx.methods.producers import Dropped, producer_axes
from atofx.methods.protocol import StateValue
from atofx.methods.selection import GroupFilter, UnitSpace, select
from atofx.methods.state_values import number, tensor
from atofx.methods.wrapper import OptimizerWrapper

if TYPE_CHECKING:
    from atofx.program import Program


class SparseOptimizer(OptimizerWrapper):
    """A base optimizer of any kind with a method around its steps that brings whole units to zero.

    Parameter groups, state and defaults are those of the base, so learning-rate schedulers, gradient scalers and
    ``zero_grad`` work on this object. Penalties are applied beside the base's step, scaled by each parameter's learning
    rate (for SGD without momentum that is the published update). Make it after the model is on its device.

    Args:
        base: the optimizer that trains; one that works without a closure.
        program: the traced model; train the plain model it was made from.
        total_steps: optimizer steps of the whole training; all phases are fractions of it.
        flops: kept fraction of the whole model's FLOPs (multiply-adds counted once), met within 1 %; or
        sparsity: the papers' target group sparsity K / N, share of all units to remove.
        groups: which prunable groups take part.
        limits: minimum widths and rounding.

    Raises:
        ConfigError: a value is out of range.
        TargetError: no mask reaches the target.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        program: Program,
        *,
        total_steps: int,
        flops: float | None = None,
        sparsity: float | None = None,
        groups: GroupFilter = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._require_optimizer(base)
        super().__init__(base)
        self.program = program
        self.total_steps = require_steps(total_steps)
        self._limits = limits
        self._space = UnitSpace(select(program, groups))
        self._axes = producer_axes(self._space)
        self._goal: Goal | None = make_goal(
            program, self._space, flops=flops, sparsity=sparsity, groups=groups, limits=limits
        )
        self._steps = 0
        self._gone = torch.zeros(self._space.total, dtype=torch.bool, device=self._device())
        self._keep: torch.Tensor | None = None
        self._dropped: Dropped | None = None
        self._frozen = False

    def _require_optimizer(self, base: object) -> None:
        if not isinstance(base, torch.optim.Optimizer):
            name = type(self).__name__
            raise ConfigError(
                f"{name} goes around the optimizer that trains: {name}(optimizer, program, ...); its first argument "
                f"is a {type(base).__name__}"
            )

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of the base optimizer with the method around it.

        Args:
            closure: computes the loss and its gradients, once.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            if self._frozen:
                self.base.step()
                self._hold()
            else:
                self._advance(self._steps)
        self._steps += 1
        return loss

    # ---------------------------------------------------------------- the decision

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return self._steps

    @property
    def frozen(self) -> bool:
        """Whether the mask is final and all it drops is zero."""
        return self._frozen

    def mask(self) -> Mask:
        """The decision; before it is taken, what would be decided now. Meets the target, if there is one."""
        return self._space.mask(self.program, self._settled())

    def present_mask(self) -> Mask:
        """What is not zero at this moment of training; one unit of every group at least."""
        keep = ~self._gone.cpu()
        for part in self._space.split(keep).values():
            if not bool(part.any()):
                part[0] = True
        return self._space.mask(self.program, keep)

    def finish(self) -> Mask:
        """Decide if that has not happened, and set every dropped unit and its momentum to exactly zero.

        From now on the plain model computes what its compact version computes; further steps hold the zeros.
        """
        if not self._frozen:
            self._decide(self._settled())
            self._freeze()
        assert self._dropped is not None
        self._dropped.zero_()
        self._dropped.clear_momentum_(self.base)
        return self.mask()

    def metrics(self) -> dict[str, float]:
        """``flops`` (kept fraction of what is not zero), ``sparsity`` (units at zero), ``frozen``, and more."""
        zeros = float(self._gone.float().mean()) if self._space.total else 0.0
        flops = int(self.program.flops(self.present_mask())) / int(self.program.flops())
        return {"flops": flops, "sparsity": zeros, "frozen": float(self._frozen), **self._own_metrics()}

    # ---------------------------------------------------------------- state

    def state_dict(self) -> dict[str, StateValue]:
        """Flat: tensors and JSON scalars, the base optimizer's among them. Loading it continues bit for bit."""
        state: dict[str, StateValue] = {
            **self._identity(),
            "step": self._steps,
            "frozen": self._frozen,
            "gone": self._gone.cpu().clone(),
        }
        if self._keep is not None:
            state["keep"] = self._keep.clone()
        return {**state, **self._own_state(), **flat_state(self.base)}

    def load_state_dict(self, state_dict: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`state_dict`; the model's weights are loaded by whoever saved them, before or after.

        Raises:
            ConfigError: the state was saved by another method, or for another model, target or length of training.
        """
        for name, value in self._identity().items():
            if state_dict.get(name) != value:
                raise ConfigError(
                    f"this state belongs to another run: {name} is {state_dict.get(name)!r}, here {value!r}"
                )
        self._steps = int(number(state_dict, "step"))
        self._frozen = bool(number(state_dict, "frozen"))
        self._gone = tensor(state_dict, "gone").to(device=self._device(), dtype=torch.bool)
        self._keep, self._dropped = None, None
        if "keep" in state_dict:
            self._decide(tensor(state_dict, "keep").cpu().bool())
        self._load_own(state_dict)
        load_flat_state(self.base, state_dict)

    def _identity(self) -> dict[str, StateValue]:
        goal = {} if self._goal is None else self._goal.state()
        name = type(self).__name__
        return {"method": name, "total_steps": self.total_steps, "units": self._space.total, **goal}

    # ---------------------------------------------------------------- for the methods

    @abstractmethod
    def _advance(self, now: int) -> None:
        """The ``now``-th step (0-based), the base optimizer's included, until the mask is frozen."""

    @abstractmethod
    def _scores(self) -> torch.Tensor:
        """Scores of all units as they are now; higher stays longer."""

    def _own_metrics(self) -> dict[str, float]:
        return {}

    def _own_state(self) -> dict[str, StateValue]:
        return {}

    def _load_own(self, state: Mapping[str, StateValue]) -> None:
        """Continue from :meth:`_own_state`."""

    def _required_goal(self) -> Goal:
        if self._goal is None:
            raise ConfigError(
                f"{type(self).__name__} needs a target: flops= (kept fraction of the FLOPs) or sparsity= (share of "
                "the units to remove)"
            )
        return self._goal

    def _is_settled(self) -> bool:
        """Whether what is kept has been decided."""
        return self._keep is not None

    def _settled(self) -> torch.Tensor:
        """The units that are kept, or would be if it were decided now."""
        return self._keep if self._keep is not None and self._is_settled() else self._decision()

    def _decision(self) -> torch.Tensor:
        """The units that would be kept if it were decided now."""
        if self._goal is None:
            return self._space.join(self.present_mask()).bool()
        return self._goal.choose(self._scores(), self._gone)

    def _decide(self, keep: torch.Tensor) -> None:
        """From now on these units stay, all others go."""
        self._keep = parallel.agree(keep, self._device())
        self._dropped = Dropped(self.program, self._space, self._axes, self._keep)

    def _fade(self, factor: float) -> None:
        """Multiply the dropped units by ``factor``, those at zero already by zero; at factor 0 the mask is frozen."""
        assert self._dropped is not None
        assert self._keep is not None
        at_zero = self._gone[~self._keep.to(self._gone.device)]
        factors = torch.full((self._dropped.count,), factor, dtype=self._dropped.dtype, device=self._dropped.device)
        self._dropped.scale_(factors.masked_fill(at_zero.to(factors.device), 0.0))

    def _freeze(self) -> None:
        """All dropped units are zero for good."""
        assert self._keep is not None
        self._gone = ~self._keep.to(self._gone.device)
        self._frozen = True
        self._hold()

    def _hold(self) -> None:
        assert self._dropped is not None
        self._dropped.scale_(torch.zeros(self._dropped.count, dtype=self._dropped.dtype, device=self._dropped.device))

    def _every_unit(self) -> FlatUnits:
        return FlatUnits(self.program, self._space, self._axes, torch.ones(self._space.total, dtype=torch.bool))

    def _device(self) -> torch.device:
        return self.program.tensor(self._axes[0].name).device if self._axes else torch.device("cpu")
