"""What all passes share: fetching by qualified name and building modules from emitted graphs."""

from __future__ import annotations

from typing import Any

from torch import nn


def attribute(root: nn.Module, name: str) -> Any:
    """The module, parameter, buffer or plain attribute of that qualified name."""
    owner: Any = root
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner


def stored(root: nn.Module, name: str) -> Any:
    """The attribute of that qualified name, not through the patched ``__getattr__``."""
    owner: Any = root
    for part in name.split("."):
        stores = [vars(owner), *(vars(owner).get(s, {}) for s in ("_parameters", "_buffers", "_modules"))]
        owner = next((store[part] for store in stores if part in store), None)
    return owner
