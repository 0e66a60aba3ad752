"""Run a model once on its example and watch how it calls its submodules and uses its tensors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.ir.copies import deepcopy
from atofx.passes.inputs import ExampleInputs
from atofx.passes.insides import Insides
from atofx.passes.restore import attributes_restored


@dataclass(frozen=True, eq=False)
class Watched:
    """One call of a submodule.

    Attributes:
        path: qualified name of the submodule.
        args, kwargs: what its ``forward`` got; :class:`NotKept` in the place of what cannot be kept.
        result: what it returned, None if it raised.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


@dataclass(frozen=True, eq=False)
class Run:
    """What a run showed.

    Attributes:
        calls: every call of a watched submodule, in the order of their ends.
        outside: parameters and buffers that are used while no watched submodule runs.
        sized: parameters and buffers whose sizes are read while no watched submodule runs.
        unfit: watched submodules that a graph cannot stand for -> why (:attr:`atofx.passes.insides.Insides.unfit`).
    """

    calls: tuple[Watched, ...]
    outside: frozenset[str]
    sized: frozenset[str]
    unfit: Mapping[str, str]


def watch(model: nn.Module, inputs: ExampleInputs, paths: Iterable[str], keep: Callable[[Any], Any]) -> Run:
    """Run a copy of the model in eval mode and watch the submodules at these paths.

    Args:
        model: it is left as it was; the copy shares its parameters.
        inputs: the example inputs.
        paths: qualified names of submodules.
        keep: what to remember of arguments and results.

    Raises:
        Exception: whatever the model raises on the example.
    """
    twin = deepcopy(model, {id(p): p for p in model.parameters()}).eval()
    paths = list(paths)
    with ExitStack() as stack:
        stack.enter_context(random_state_kept())
        stack.enter_context(parameters_kept(model))
        start = stack.enter_context(attributes_restored(twin))  # it shares what lies beside its modules
        insides = Insides(twin, paths, start)
        watcher = _Watcher(insides, keep)
        for path in paths:
            watcher.attach(twin.get_submodule(path), path)
        # parts that torch.compile would run as one are run operation by operation, or they could not be watched
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), insides.watched():
            call(twin, copied(inputs))
        return Run(tuple(watcher.calls), insides.used, insides.sized, insides.unfit)


def failure_of(model: nn.Module, inputs: ExampleInputs) -> Exception | None:
    """What the model itself raises on the example in eval mode, with nobody watching; None if it runs.

    Args:
        model: it is left as it was.
        inputs: the example inputs.
    """
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with random_state_kept(), parameters_kept(model), attributes_restored(model), torch.no_grad():
            call(model.eval(), copied(inputs))  # the mode is an attribute
    except Exception as error:  # noqa: BLE001 - the user's own forward may raise anything
        return error
    finally:
        with torch.no_grad():
            for buffer, content in buffers:
                buffer.copy_(content)
    return None


@contextmanager
def parameters_kept(model: nn.Module) -> Iterator[None]:
    """Put the values of parameters back, which some models change when they are called (momentum encoders)."""
    held = [(p, p.detach(), p.detach().clone()) for p in model.parameters()]
    versions = [own._version for _, own, _ in held]
    try:
        yield
    finally:
        with torch.no_grad():
            for (parameter, own, content), version in zip(held, versions, strict=True):
                if own._version != version:
                    own.copy_(content)
                if parameter.data_ptr() != own.data_ptr():
                    parameter.data = own


def call(module: nn.Module, inputs: ExampleInputs) -> Any:
    """Call a module on a tensor, a tuple of positional or a dict of keyword inputs."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def copied(value: Any) -> Any:
    """A nested value with copies of its tensors."""
    return pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), value)


class NotKept:
    """In the place of what a submodule got or gave and cannot be made anew with copies of its tensors."""


def _kept(value: Any, keep: Callable[[Any], Any]) -> Any:
    """What is remembered of a value; a class of the user's or of torch's may refuse tensors other than its own."""
    try:
        return keep(value)
    except Exception:  # noqa: BLE001 - such as PackedSequence's for sizes on the meta device
        return NotKept()


class _Watcher:
    """Hooks next to ``forward``: the user's own hooks belong to the outside."""

    def __init__(self, insides: Insides, keep: Callable[[Any], Any]) -> None:
        self.calls: list[Watched] = []
        self._insides = insides
        self._keep = keep
        self._running: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def attach(self, module: nn.Module, path: str) -> None:
        """Watch a module."""

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._insides.enter(path)  # what is kept is copied inside, too
            named = {name: _kept(value, self._keep) for name, value in kwargs.items()}
            self._running.append((tuple(_kept(value, self._keep) for value in args), named))

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
            self.calls.append(Watched(path, *self._running.pop(), _kept(result, self._keep)))
            self._insides.leave()

        self._insides.disregard(module.register_forward_pre_hook(before, with_kwargs=True))
        self._insides.disregard(module.register_forward_hook(after, with_kwargs=True, prepend=True, always_call=True))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Python's and torch's random numbers go on afterwards as if nothing had happened."""
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(state)
