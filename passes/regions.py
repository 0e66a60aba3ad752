"""A model that cannot be traced whole -> its largest submodules that can, found on one run of the example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.errors import ExampleInputError, TraceError
from atofx.ops.evaluate import to_meta
from atofx.passes.alike import compact_alike, computes_the_same, same_graph
from atofx.passes.base import tensors_by_name
from atofx.passes.inputs import ExampleInputs
from atofx.passes.merge import (
    TracedRegions,
    is_layer,
    merge,
    positional_or_named,
    trace_region,
    unused_by,
)
from atofx.passes.plan import Call, Plan, form, has_rows, is_plain, with_rows
from atofx.passes.record import Run, Watched, copied, failure_of, watch
from atofx.passes.trace import NoFrontendError, Traced

USED_OUTSIDE = "is used outside the traced regions, by code that could not be traced"
SIZE_READ = "has a size that is read outside the traced regions, by code that could not be traced"
NOT_REACHED = "is used by no traced region: on the example its module is not called, or only by code outside of them"


def trace_regions(model: nn.Module, inputs: ExampleInputs, error: TraceError) -> TracedRegions:
    """Trace the largest submodules that can be traced.

    The model is run on the example in eval mode to see how its submodules are called.

    Args:
        model: any module; it is left as it was.
        inputs: its example inputs.
        error: why it cannot be traced whole.

    Raises:
        ExampleInputError: the model does not run on the example.
        TraceError: nothing but single layers can be traced, or a run cannot be watched.
    """
    if not isinstance(model, nn.Module):
        raise error
    search = _Search(model, inputs)
    try:
        regions, run = search.regions()
    except _NotRunError as failure:
        cause = failure.__cause__
        first = error.symbolic if isinstance(error, NoFrontendError) else error
        shapes = ", ".join(str(tuple(t.shape)) for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor))
        raise ExampleInputError(
            f"{type(model).__name__} does not run on the example inputs ({shapes or 'no tensor'}): "
            f"{type(cause).__name__}: {cause}\nTracing said: {first}"
        ) from error
    except _NotWatchedError as failure:
        cause = failure.__cause__
        raise TraceError(
            f"{error}\nNor can it be traced in regions: {type(model).__name__} runs on the example inputs, but a copy "
            f"of it that is watched raises {type(cause).__name__}: {cause}"
        ) from error
    reason = "\n".join([str(error), *(f"{path!r} cannot be a region: {why}" for path, why in search.unfit.items())])
    if all(is_layer(model.get_submodule(path)) for path in regions):
        raise TraceError(
            f"{reason} (No submodule with more than one layer can be traced on its own either.)"
        ) from error
    calls, parts = [], []
    for path, known in regions.items():
        for key, one in _distinct(model, path, run).items():
            calls.append(one)
            parts.append(known[key])
    outside = dict.fromkeys(unused_by(model, parts), NOT_REACHED)
    outside.update((name, SIZE_READ) for name in run.sized)
    outside.update((name, USED_OUTSIDE) for name in run.outside)
    parameters, buffers = tensors_by_name(model)
    order = [*parameters, *buffers]
    plan = Plan(reason, tuple(calls), {name: outside[name] for name in order if name in outside})
    return merge(model, inputs, plan, parts)


def retrace(model: nn.Module, inputs: ExampleInputs, plan: Plan) -> TracedRegions:
    """Trace a model by a plan that is known already; the model is not run.

    Raises:
        TraceError: the plan does not fit the model.
    """
    missing = set(plan.regions) - {name for name, _ in model.named_modules(remove_duplicate=False)}
    if missing:
        raise TraceError(
            f"{type(model).__name__} has no submodule {sorted(missing)[0]!r}: the regions are another model's"
        )
    return merge(model, inputs, plan, [trace_region(model, c.region, c.inputs) for c in plan.calls])


class _NotRunError(Exception):
    """The model fails on its example; the cause says how."""


class _NotWatchedError(Exception):
    """The model runs on its example, but a watched copy fails; the cause says how."""


#: What tracing made of a region, by the form of its inputs.
_Parts = dict[Any, Traced]


class _Search:
    """Walks from the root down to the first submodules that can be traced.

    Attributes:
        unfit: those that graphs cannot stand for although they can be traced -> why.
    """

    def __init__(self, model: nn.Module, inputs: ExampleInputs) -> None:
        self.model = model
        self.inputs = inputs
        self.tried: dict[str, _Parts | None] = {}
        self.unfit: dict[str, str] = {}

    def regions(self) -> tuple[dict[str, _Parts], Run]:
        """The regions, and a run that watched just them.

        Raises:
            _NotRunError: the model fails on its example.
            _NotWatchedError: it runs, but not while it is watched.
        """
        paths = [n for n, m in self.model.named_modules() if n and next(m.parameters(), None) is not None]
        seen: dict[str, list[Watched]] = {}
        for one in self._watch(paths, to_meta).calls:
            seen.setdefault(one.path, []).append(one)
        while True:
            regions = {path: self.tried[path] or {} for path in self._walk("", seen)}
            run = self._watch(regions, copied)
            self.unfit.update(run.unfit)
            wrong = [p for p, parts in regions.items() if p in self.unfit or not self._agrees(p, parts, run)]
            if not wrong:
                return regions, run
            self.tried.update(dict.fromkeys(wrong))

    def _watch(self, paths: Iterable[str], keep: Any) -> Run:
        try:
            return watch(self.model, self.inputs, paths, keep)
        except Exception as error:  # the user's own forward may raise anything
            failure = failure_of(self.model, self.inputs)
            if failure is not None:
                raise _NotRunError from failure
            raise _NotWatchedError from error

    def _walk(self, path: str, seen: dict[str, list[Watched]]) -> Iterator[str]:
        if path in seen and path not in self.tried:
            self.tried[path] = self._traced(path, seen[path])
        if self.tried.get(path):
            yield path
            return
        for name, _ in self.model.get_submodule(path).named_children():
            yield from self._walk(f"{path}.{name}" if path else name, seen)

    def _traced(self, path: str, calls: list[Watched]) -> _Parts | None:
        """A graph for every different call, None if one fails or they are not one and the same."""
        module = self.model.get_submodule(path)
        device = next(module.parameters()).device
        parts: _Parts = {}
        for one in calls:
            inputs = positional_or_named(module, one.args, one.kwargs)
            if inputs is None or not is_plain((inputs, one.result)):
                return None
            key = form(inputs, sizes=True)
            if key in parts:
                continue
            try:
                parts[key] = trace_region(self.model, path, _zeros(inputs, device))
                if has_rows(inputs):
                    continue
                filled = trace_region(self.model, path, _zeros(with_rows(inputs), device))
            except TraceError:
                return None
            if not same_graph(parts[key], filled):
                return None
            parts[key] = filled
        first, *others = parts.values()
        alike = all(same_graph(first, other) for other in others)
        return parts if alike and compact_alike(self.model, path, list(parts.values())) else None

    def _agrees(self, path: str, parts: _Parts, run: Run) -> bool:
        """Whether the graph computes what the submodule computes, in eval mode and in train mode."""
        module = self.model.get_submodule(path)
        if is_layer(module):
            return True
        done = set()
        for one in run.calls:
            inputs = positional_or_named(module, one.args, one.kwargs) if one.path == path else None
            if inputs is None or (key := form(inputs, sizes=True)) in done:
                continue
            done.add(key)
            if key not in parts or not computes_the_same(parts[key].module, module, inputs, one.result):
                return False
        return True


def _distinct(model: nn.Module, path: str, run: Run) -> dict[Any, Call]:
    """The different calls of a region, with the inputs of the first of each kind.

    A call on no rows costs nothing; some rows stand for it, so that there are channels to follow.
    """
    found: dict[Any, tuple[ExampleInputs, int]] = {}
    for one in run.calls:
        if one.path == path:
            inputs = positional_or_named(model.get_submodule(path), one.args, one.kwargs)
            assert inputs is not None
            first, times = found.setdefault(form(inputs, sizes=True), (inputs, 0))
            found[form(inputs, sizes=True)] = (first, times + 1)
    return {key: Call(path, *(c if has_rows(c[0]) else (with_rows(c[0]), 0))) for key, c in found.items()}


def _zeros(value: Any, device: torch.device) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: torch.zeros_like(t, device=device), value)
