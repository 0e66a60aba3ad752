"""What the engine trains: a whole network, or the compact one of a mask that is decided already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from atofx.ir.mask import Mask
from atofx.nn import Init, renew_

if TYPE_CHECKING:
    from atofx.program import Program


class Network(Protocol):
    """A module in training, and how its weights are kept: always as those of the dense model."""

    @property
    def module(self) -> nn.Module:
        """The module that is trained in place, unwrapped."""

    def masked(self, mask: Mask) -> nn.Module:
        """What computes the network's function with the dropped units of a frozen mask at zero."""

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the dense model."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue with weights of the dense model."""

    def settle(self) -> None:
        """The training is over: its outcome is in the dense model."""


class Dense:
    """The user's model itself.

    Args:
        module: it.
        program: the trace of it; None where nothing is pruned.
    """

    def __init__(self, module: nn.Module, program: Program | None = None) -> None:
        self.module = module
        self._program = program

    def masked(self, mask: Mask) -> nn.Module:
        """A copy with the producers of dropped units at zero."""
        assert self._program is not None
        return self._program.zeroed(mask)

    def state_dict(self) -> dict[str, Any]:
        """Its own."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Its own."""
        self.module.load_state_dict(state)

    def settle(self) -> None:
        """It is there already."""


class Compact:
    """The compact network of a mask, trained from new random weights; the dense model gets them in the end.

    Args:
        program: the trace of ``model``.
        model: the dense model.
        mask: what the compact network keeps.
        seed: of its weights.
        init: how they are drawn.
    """

    def __init__(self, program: Program, model: nn.Module, mask: Mask, seed: int, init: Init) -> None:
        self._program = program
        self._model = model
        self._mask = mask
        self.module = program.compact(mask)
        renew_(self.module, seed=seed, init=init)

    def masked(self, mask: Mask) -> nn.Module:
        """The compact network: it computes what the dense one does with its dropped units at zero."""
        return self.module

    def state_dict(self) -> dict[str, Tensor]:
        """The compact network's weights in the dense model, producers of dropped units at zero."""
        state = self._program.dense_state_dict(self._mask, self.module.state_dict())
        return {key: state[key] for key in self._model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Into the dense model, and from there into the compact one."""
        self._model.load_state_dict(state)
        self.module.load_state_dict(self._program.compact(self._mask).state_dict())

    def settle(self) -> None:
        """Put the weights into the dense model."""
        self._model.load_state_dict(self.state_dict())
