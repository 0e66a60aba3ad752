"""The user's model after it was traced: tensors that took the place of others are taken up, another model is refused.

``model.to(device)`` makes buffers anew, ``load_state_dict(assign=True)`` and ``to_empty`` parameters, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from atofx.errors import ModelChangedError
from atofx.ops.constants import CONSTANT, TENSOR
from atofx.passes.base import modules_by_name, tensors_by_name
from atofx.passes.trace import Traced

_AGAIN = "trace the model again"


@dataclass(frozen=True, eq=False)
class Origin:
    """The user's model.

    Attributes:
        model: the model.
        modules: by every name, the modules that it had when it was traced.
    """

    model: nn.Module
    modules: Mapping[str, nn.Module]

    def holds(self, name: str, tensor: Tensor) -> bool:
        """Whether the model still has a tensor under its name; what is of no module of the model counts as held."""
        path, _, key = name.rpartition(".")
        module = self.modules.get(path)
        if module is None or not (key in module._parameters or key in module._buffers):
            return True
        return module._parameters.get(key) is tensor or module._buffers.get(key) is tensor


def follow(traced: Traced, origin: Origin) -> bool:
    """Take up the tensors that the user's model has now.

    Args:
        traced: changed in place where the model has others.
        origin: of the model.

    Returns:
        Whether there were any.

    Raises:
        ModelChangedError: the model is another one than was traced.
    """
    _require_modules(origin)
    parameters, buffers = tensors_by_name(origin.model)
    now: dict[str, Tensor] = {**parameters, **buffers}
    renewed = {
        name: (old, _successor(name, old, now.get(name)))
        for name, old in traced.tensors.items()
        if name not in traced.constants and now.get(name) is not old
    }
    if not renewed:
        return False
    _require_ties(traced, now)
    successors = {id(old): new for old, new in renewed.values()}
    for node in traced.graph.nodes:
        _take_up_in_node(node, successors)
    traced.tensors.update((name, new) for name, (_, new) in renewed.items())
    attributes = traced.blueprint.attributes
    attributes.update((n, successors[id(t)]) for n, t in attributes.items() if id(t) in successors)
    for module in traced.module.modules():
        for own in (module._parameters, module._buffers):
            own.update((key, successors[id(t)]) for key, t in own.items() if id(t) in successors)  # type: ignore[misc]
    return True


def _require_modules(origin: Origin) -> None:
    now = dict(modules_by_name(origin.model))
    for path, module in origin.modules.items():
        if now.get(path) is not module:
            found = f"a {type(now[path]).__name__} now" if path in now else "gone"
            raise ModelChangedError(
                f"{path}, a {type(module).__name__} when the model was traced, is {found}, which the graph does not "
                f"know of; {_AGAIN}"
            )


def _successor(name: str, old: Tensor, new: Tensor | None) -> Tensor:
    if new is None:
        raise ModelChangedError(f"{name} is gone from the model since that was traced; {_AGAIN}")
    if new.shape != old.shape:
        raise ModelChangedError(
            f"{name} had shape {tuple(old.shape)} when the model was traced and has {tuple(new.shape)} now; {_AGAIN}"
        )
    if isinstance(new, nn.Parameter) != isinstance(old, nn.Parameter):
        kinds = ("a parameter", "a buffer") if isinstance(old, nn.Parameter) else ("a buffer", "a parameter")
        raise ModelChangedError(f"{name} was {kinds[0]} when the model was traced and is {kinds[1]} now; {_AGAIN}")
    return new


def _require_ties(traced: Traced, now: Mapping[str, Tensor]) -> None:
    """What was one tensor under several names still is, and nothing else is."""
    names: dict[int, set[str]] = defaultdict(set)
    for name, tensor in traced.tensors.items():
        if name not in traced.constants:
            names[id(tensor)].add(name)
    tied: dict[int, set[str]] = defaultdict(set)
    for name in set().union(*names.values()):
        tied[id(now[name])].add(name)
    for before in names.values():
        after = tied[id(now[min(before)])]
        if after != before:
            both = ", ".join(sorted(before | after))
            raise ModelChangedError(f"{both} share other memory than when the model was traced; {_AGAIN}")


def _take_up_in_node(node: fx.Node, successors: Mapping[int, Tensor]) -> None:
    """Name the new tensor; its values must be those of the old one where the analysis read them."""
    old = node.meta.get(TENSOR)
    if not isinstance(old, Tensor) or id(old) not in successors:
        return
    new = successors[id(old)]
    if isinstance(node.meta.get(CONSTANT), Tensor) and not torch.equal(new.detach().to(old), old):
        raise ModelChangedError(
            f"{node.target} has other values than when the model was traced, and what is coupled follows from them; "
            f"{_AGAIN}"
        )
    node.meta[TENSOR] = new
