"""Find a model's output layers, which other tools must be told to leave alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def output_layers(model: nn.Module, inputs: tuple[Any, ...]) -> list[nn.Module]:
    """The convolutions and linear layers that come last on any path to any output, found in autograd's graph."""
    owners = {
        id(module.weight): module for module in model.modules() if isinstance(module, _LAYERS)
    }  # by parameter: the layer whose result it makes
    with torch.enable_grad():
        outputs = pytree.tree_leaves(model(*inputs))
    found: dict[int, nn.Module] = {}
    stack = [t.grad_fn for t in outputs if isinstance(t, Tensor) and t.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        layers = [owners[key] for key in _own_parameters(node) if key in owners]
        found.update((id(layer), layer) for layer in layers)
        if not layers:
            sources = [source for source, _ in node.next_functions if source is not None]
            stack.extend(source for source in sources if source not in seen)
            seen.update(sources)
    return list(found.values())


def _own_parameters(node: Any) -> list[int]:
    """Parameters that enter a node directly, or transposed."""
    found = []
    for source, _ in node.next_functions:
        if source is not None and type(source).__name__ in ("TBackward0", "TransposeBackward0"):
            source = source.next_functions[0][0]
        if hasattr(source, "variable"):
            found.append(id(source.variable))
    return found
