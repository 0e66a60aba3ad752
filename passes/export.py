"""Model and example inputs -> the graph torch.export records, ready to be replayed on the tracer's proxies."""

from __future__ import annotations

import copy
import functools
import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx.experimental import _config as symbolic_config
from torch.utils import _pytree as pytree

from atofx.errors import TraceError
from atofx.ops import COMPOSITES
from atofx.passes.place import format_stack

#: Which dimensions of every input may differ from the example's, tried in this order; a model that uses a size as a
#: number fixes it.
_FREE = ("every dimension", "the first dimension", "no dimension")


def export_graph(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    """What torch.export records of one call, in the model's present mode and before any decomposition.

    Args:
        model: any module; a copy that shares its tensors is exported, so that nothing is left behind in the model.
        args: positional example inputs.
        kwargs: keyword example inputs.

    Raises:
        TraceError: torch.export cannot record the call; names the user's file and line where they are known.
    """
    twin = _twin(model)
    for free in _FREE:
        try:
            with _quiet():
                return _export(twin, args, kwargs, free)
        except Exception as error:  # noqa: BLE001 - the user's own forward may raise anything
            failure = error
    raise TraceError(_message(failure, model)) from failure


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], free: str) -> ExportedProgram:
    shapes = ShapesCollection()
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor) and leaf.dim() and free != "no dimension":
            shapes[leaf] = [Dim.AUTO if d == 0 or free == "every dimension" else Dim.STATIC for d in range(leaf.dim())]
    # torch.export of releases before 2.7 decomposes; its predecessor of the same meaning does not
    export = getattr(torch.export, "export_for_training", torch.export.export)
    # a batch of one is a size like any other
    with symbolic_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return export(model, args, kwargs, dynamic_shapes=shapes, strict=False)


def _twin(model: nn.Module) -> nn.Module:
    """A copy that shares all tensors, with composite modules opened up."""
    try:
        twin = copy.deepcopy(model, {id(t): t for t in [*model.parameters(), *model.buffers()]})
    except Exception as error:  # whatever the user's own objects raise
        raise TraceError(
            f"{type(model).__name__} cannot be exported: a copy is exported, so that the model stays as it is, and it "
            f"cannot be copied: {type(error).__name__}: {error}. Keep what cannot be copied outside the model"
        ) from error
    for module in twin.modules():
        composite = COMPOSITES.module(module)
        if composite is not None:
            vars(module)["forward"] = functools.partial(composite, module)
    return twin


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch.export's warnings and log lines, and without fused encoder layers, whose insides cannot be seen."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export", "torch.fx.experimental")]
    levels = [logger.level for logger in loggers]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        torch.backends.mha.set_fastpath_enabled(False)
        # the graph of a failed attempt is printed
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _message(error: Exception, model: nn.Module) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = format_stack(traceback.extract_tb(error.__traceback__))
    return (
        f"torch.export cannot record {type(model).__name__}{place}: {type(error).__name__}: "
        f"{lines[0] if lines else 'no message'}"
    )
