"""Forward hooks of a model's modules, which are traced as the code of the modules is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    _global_forward_hooks,
    _global_forward_pre_hooks,
)


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether calling a module runs more than its ``forward``."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def without_forward_hooks(module: nn.Module) -> nn.Module:
    """The same module, its parameters, buffers and submodules shared, that runs none of its forward hooks."""
    twin: nn.Module = object.__new__(type(module))
    vars(twin).update(vars(module))
    vars(twin).update((name, OrderedDict()) for name in vars(module) if name.startswith(_FORWARD))
    return twin


def between_hooks(
    module: nn.Module, call: Callable[..., Any], instead: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
) -> Any:
    """The result of calling a module with its hooks, which run, and something else in the place of its ``forward``.

    Hooks that are registered for all modules do not run: they do where the graph calls the module.

    Args:
        module: that is called.
        call: what calls it.
        instead: of its ``forward``.
        args: of the call, by position.
        kwargs: of the call, by name.
    """
    own = vars(module)
    before = {"forward": own["forward"]} if "forward" in own else {}
    of_all = [(hooks, dict(hooks)) for hooks in (_global_forward_hooks, _global_forward_pre_hooks)]
    own["forward"] = instead
    for hooks, _ in of_all:
        hooks.clear()
    try:
        return call(*args, **kwargs)
    finally:
        for hooks, content in of_all:
            hooks.update(content)
        del own["forward"]
        own.update(before)


#: What the attributes start with that hold hooks around ``forward``, or say how to call them.
_FORWARD = ("_forward_hooks", "_forward_pre_hooks")
