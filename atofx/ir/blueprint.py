"""A graph and what its nodes name, made into a module when one is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from atofx.ir.graph_module import GraphModule


@dataclass(frozen=True, eq=False)
class Blueprint:
    """What a GraphModule is made of. Analysis reads graph and attributes; generating code takes time and can wait.

    Attributes:
        graph: the graph.
        attributes: every module, parameter and buffer the graph names, by qualified name.
        name: class name of the module.
        training: the mode it is in.
        transient: buffers that do not belong to the state dict.
    """

    graph: fx.Graph
    attributes: dict[str, Any]
    name: str
    training: bool
    transient: frozenset[str] = frozenset()

    @cached_property
    def module(self) -> fx.GraphModule:
        """The module; it shares all attributes, and owns the graph."""
        module = GraphModule(self.attributes, self.graph, self.name)
        module.training = self.training
        for name in self.transient:
            prefix, _, last = name.rpartition(".")
            module.get_submodule(prefix)._non_persistent_buffers_set.add(last)
        return module

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        """Every parameter and buffer of the module, one that goes by several names under each of them."""
        found: list[tuple[str, torch.Tensor]] = []
        for name, value in self.attributes.items():
            if isinstance(value, nn.Module):
                inside = value.named_modules(prefix=name, remove_duplicate=False) if value._modules else [(name, value)]
                for prefix, module in inside:
                    for own in (module._parameters, module._buffers):
                        found += [(f"{prefix}.{key}", tensor) for key, tensor in own.items() if tensor is not None]
            elif isinstance(value, torch.Tensor):
                found.append((name, value))
        return found
