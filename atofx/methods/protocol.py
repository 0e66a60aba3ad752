"""What every training-time method promises: one object beside the user's optimizer, called once per optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch

from atofx.ir.mask import Mask

Batch: TypeAlias = tuple[Any, Any]
"""``(inputs, targets)`` on the model's device; inputs are a tensor, a tuple (positional) or a dict (keyword)."""

BatchSource: TypeAlias = Batch | Callable[[], Batch]
"""A batch, or a function that makes one; the function is called only when the method needs a batch."""

LossFn: TypeAlias = Callable[[Any, Any], torch.Tensor]
"""``loss(outputs, targets)``: a scalar with gradients."""

StateValue: TypeAlias = torch.Tensor | int | float | bool | str
"""What a state dict may hold: tensors (safetensors) and JSON scalars."""


@runtime_checkable
class Method(Protocol):
    """Decides a mask while the user's loop trains the plain model.

    The loop calls :meth:`step` after every optimizer step; nothing else is required of it. A method never touches the
    gradients, the optimizer state, the train/eval modes or the global random state of its user.
    """

    def due(self) -> bool:
        """True if the coming :meth:`step` will use its batch."""

    def step(self, *, lr: float, batch: BatchSource) -> None:
        """Do what the method does between two optimizer steps; ``lr`` is the model's present learning rate."""

    def mask(self) -> Mask:
        """The decision: frozen, or what would be frozen now. Always meets the FLOPs target."""

    def present_mask(self) -> Mask:
        """The mask in force at this moment of training."""

    def finish(self, optimizer: torch.optim.Optimizer | None = None) -> Mask:
        """Freeze the mask and set the producers of every dropped unit (and their momentum) to exactly zero."""

    def metrics(self) -> dict[str, float]:
        """Numbers worth logging."""

    def state_dict(self) -> dict[str, StateValue]:
        """Everything needed to continue, flat: tensors and JSON scalars."""

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from what :meth:`state_dict` gave."""


@runtime_checkable
class Search(Protocol):
    """Finds a mask before any weight is trained; the compact network is then trained from new weights.

    The loop calls :meth:`step` on training batches and :meth:`evaluate` now and then; the user's model stays as it is.
    Some images are held out: :attr:`network` is evaluated on them, and a search may learn on them, too.
    """

    @property
    def network(self) -> torch.nn.Module:
        """What :meth:`evaluate` asks the accuracy of."""

    def step(self, batch: Batch, held_out: BatchSource) -> None:
        """Learn from one training batch, and from one of held-out images where the search does; made only then."""

    def evaluate(self, accuracy: float) -> None:
        """Take note of the accuracy of :attr:`network` on validation images, in percent."""

    def mask(self) -> Mask:
        """The decision as it would be now. Always meets the FLOPs target, together with :meth:`without`."""

    def without(self) -> tuple[str, ...]:
        """Names of the residual blocks (``program.blocks``) that the compact network goes without."""

    def metrics(self) -> dict[str, float]:
        """Numbers worth logging."""

    def state_dict(self) -> dict[str, StateValue]:
        """Everything needed to continue, flat: tensors and JSON scalars."""

    def load_state_dict(self, state: Mapping[str, StateValue]) -> None:
        """Continue from what :meth:`state_dict` gave."""


def draw(batch: BatchSource) -> Batch:
    """The batch itself, made now if it was given as a function."""
    return batch() if callable(batch) else batch


def call(module: torch.nn.Module, inputs: Any) -> Any:
    """``module(inputs)`` with a tuple spread as positional and a dict as keyword inputs."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    if isinstance(inputs, (tuple, list)):
        return module(*inputs)
    return module(inputs)
