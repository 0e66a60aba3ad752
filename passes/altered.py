"""Layers that are not what they seem while a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from atofx.passes.hooks import has_forward_hooks
from atofx.passes.snapshot import Snapshot


@contextmanager
def altered_noted(model: nn.Module) -> Iterator[set[nn.Module]]:
    """The modules that are not what they seem when they are called meanwhile, be it by what ``forward`` does.

    They have forward hooks, or other attributes than at the beginning: a graph that calls one would call it as it is
    afterwards.
    """
    found: set[nn.Module] = set()
    before = Snapshot([vars(module) for module in model.modules()])

    def note(module: nn.Module, inputs: Any) -> None:
        if has_forward_hooks(module) or before.differs(vars(module)):
            found.add(module)

    handle = register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        handle.remove()
