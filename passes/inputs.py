"""Example inputs: bound to the parameters of ``forward``, and arranged for a call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.errors import ExampleInputError, TraceError

ExampleInputs = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


def bind_inputs(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, Any]:
    """Example inputs by the parameter names of ``forward``."""
    signature = inspect.signature(model.forward)
    if isinstance(example_inputs, Mapping):
        args: tuple[Any, ...] = ()
        kwargs = dict(example_inputs)
    else:
        args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
        kwargs = {}
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TraceError(
            f"the example inputs do not fit {type(model).__name__}.forward{signature}: {error}; "
            "pass a tensor, a tuple of positional inputs, or a dict of keyword inputs"
        ) from error
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named.update({f"{name}_{i}": v for i, v in enumerate(value)})
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return named


def has_empty(example_inputs: ExampleInputs) -> bool:
    """Whether some tensor has no elements."""
    return any(tensor.numel() == 0 for tensor in _tensors(example_inputs))


def refuse_if_empty(model: nn.Module, example_inputs: ExampleInputs) -> None:
    """Channels cannot be followed where no tensor has elements; an empty one beside others may be all right.

    Raises:
        ExampleInputError: no tensor has any.
    """
    tensors = _tensors(example_inputs)
    if tensors and all(tensor.numel() == 0 for tensor in tensors):
        raise empty_error(model, example_inputs)


def empty_error(model: nn.Module, example_inputs: ExampleInputs) -> ExampleInputError:
    """What to say of the first input without elements."""
    for name, value in bind_inputs(model, example_inputs).items():
        for path, leaf in pytree.tree_flatten_with_path(value)[0]:
            if isinstance(leaf, torch.Tensor) and leaf.numel() == 0:
                return ExampleInputError(
                    f"the example input {name}{pytree.keystr(path)} of {type(model).__name__} is empty, of shape "
                    f"{tuple(leaf.shape)}: there are no channels to follow; give an example with at least one element "
                    "along every dimension, such as a batch of one"
                )
    raise AssertionError("some tensor is empty")


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def arrange(signature: inspect.Signature, named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for a call of the unbound ``forward`` (its first parameter is the module)."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    rest = dict(named)
    positional = True
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            i = 0
            while f"{name}_{i}" in rest:
                args.append(rest.pop(f"{name}_{i}"))
                i += 1
        elif name in rest:
            if positional and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                args.append(rest.pop(name))
            else:
                kwargs[name] = rest.pop(name)
        else:
            positional = False
    return tuple(args), kwargs | rest
