"""What is decided by sizes while torch.export runs a model: every number and every truth that something asks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from atofx.passes.place import Whereabouts

_TORCH = f"{Path(torch.__file__ or '').resolve().parent}{os.sep}"
#: torch's files that ask a symbolic number on behalf of their caller.
_ON_BEHALF = frozenset(
    f"{_TORCH}{name}"
    for name in (
        "__init__.py", "fx/experimental/sym_node.py", "fx/experimental/symbolic_shapes.py",
        "fx/experimental/recording.py",
    )
)  # fmt: skip
#: Files and folders of torch that find out the form of a result after a call was recorded. All others, such as
#: ``nn/functional.py``, are as much a part of the model as its own code.
_AFTERWARDS = frozenset(
    {
        "_decomp", "_dynamo", "_export", "_functorch", "_higher_order_ops", "_library", "_meta_registrations.py",
        "_ops.py", "_prims", "_prims_common", "_refs", "_subclasses", "export", "fx", "utils",
    }
)  # fmt: skip
#: Operations whose result has one size or another, by a comparison of sizes.
_CLAMPED = (
    "slice", "narrow", "diagonal", "max_pool", "avg_pool", "adaptive_max_pool", "fractional_max_pool", "unfold", "cat",
)  # fmt: skip
#: Files of torch that compare sizes to tell how a tensor lies in memory.
_LAYOUT = (f"{_TORCH}_prims_common{os.sep}", f"{_TORCH}_subclasses{os.sep}fake_tensor.py")


@dataclass(frozen=True)
class SizeDecision:
    """Something that was decided by the sizes of the inputs.

    Attributes:
        expression: a number or a truth, by the symbols of the inputs' free sizes; one without symbols is the same for
            all sizes but 0.
        outcome: what it is for the example.
        line: file and line of the model's code, None where that is not known.
    """

    expression: sympy.Basic
    outcome: float
    line: tuple[str, int] | None

    def holds(self, sizes: dict[sympy.Symbol, int]) -> bool:
        """Whether it is the same for these sizes."""
        return outcome_of(self.expression.xreplace({s: sympy.Integer(n) for s, n in sizes.items()})) == self.outcome


def outcome_of(value: Any) -> float | None:
    """A number or a truth as Python has it; None of what still has symbols."""
    if isinstance(value, (bool, int, float)):
        return value
    if value in (sympy.true, sympy.false):
        return bool(value)
    if isinstance(value, sympy.Integer):
        return int(value)
    return float(value) if isinstance(value, sympy.Number) else None


class Noted:
    """What was decided by sizes, as it was asked for."""

    def __init__(self) -> None:
        self._asked: dict[sympy.Basic, tuple[SizeDecision, ShapeEnv]] = {}
        self._places = Whereabouts()

    def add(self, env: ShapeEnv, expression: Any, value: Any, frame: FrameType) -> None:
        """Note an answer that ``frame`` got, unless it changes nothing about the graph."""
        outcome = outcome_of(value)
        if outcome is None or not isinstance(expression, sympy.Basic) or expression in self._asked:
            return
        if _counts(expression, outcome, frame):
            self._asked[expression] = SizeDecision(expression, outcome, self._places.now()), env

    def settled(self, program: ExportedProgram, free: Iterable[sympy.Symbol]) -> tuple[SizeDecision, ...]:
        """Each decision once, by the sizes that are free in the end.

        Args:
            program: what was exported meanwhile.
            free: the symbols of its inputs' free sizes.
        """
        found: dict[sympy.Basic, SizeDecision] = {}
        for asked, env in self._asked.values():
            if not asked.expression.free_symbols:
                # torch.export takes sizes for positive, and has an answer to `if x.shape[0] == 0` before it is asked
                found.update((s, SizeDecision(_positive(s), True, asked.line)) for s in free if s not in found)
                continue
            expression = env.replace(asked.expression)
            if expression.free_symbols:
                found.setdefault(expression, SizeDecision(expression, asked.outcome, asked.line))
        for decision in _squeezed(program):
            found.setdefault(decision.expression, decision)
        return tuple(found.values())


@contextmanager
def decisions_noted() -> Iterator[Noted]:
    """While torch.export runs a model, note what is decided by sizes.

    torch.export keeps some of it as conditions on the inputs, together with what it asked for itself (how a tensor lies
    in memory), and says nothing of what its own assumption that no free size is below 2 has answered. So every question
    is noted here, and who asked it: code of the model counts, and so does torch's own where the answer becomes a part
    of the graph: a number, or one of two sizes of a result.
    """
    original, noted = ShapeEnv.evaluate_expr, Noted()

    def evaluate(self: ShapeEnv, expression: Any, *args: Any, **kwargs: Any) -> Any:
        value = original(self, expression, *args, **kwargs)
        noted.add(self, expression, value, sys._getframe(1))
        return value

    setattr(ShapeEnv, "evaluate_expr", evaluate)  # noqa: B010 - mypy takes a function for the method's own
    setattr(torch.Tensor, "contiguous", _contiguous)  # noqa: B010
    try:
        yield noted
    finally:
        setattr(ShapeEnv, "evaluate_expr", original)  # noqa: B010
        del torch.Tensor.contiguous  # it is its base class's again


def _positive(symbol: sympy.Symbol) -> sympy.Basic:
    positive: sympy.Basic = sympy.StrictGreaterThan(symbol, 0, evaluate=False)
    return positive


def _squeezed(exported: ExportedProgram) -> Iterator[SizeDecision]:
    """Free sizes that must not be 1, because a call would leave out their dimension there."""
    places = Whereabouts()
    for node in exported.graph.nodes:
        if str(node.target).startswith("aten.squeeze."):
            shape = node.all_input_nodes[0].meta["val"].shape
            dims = node.args[1] if len(node.args) > 1 else range(len(shape))
            for dim in [dims] if isinstance(dims, int) else dims:
                if isinstance(shape[dim], torch.SymInt):
                    is_one = sympy.Eq(shape[dim].node.expr, 1)
                    yield SizeDecision(is_one, False, places.last(node.stack_trace))


def _contiguous(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """``Tensor.contiguous``, which asks whether there is something to do before it is recorded."""
    return torch._C.TensorBase.contiguous(self, *args, **kwargs)


def _counts(expression: sympy.Basic, outcome: float, frame: FrameType | None) -> bool:
    """Whether the graph depends on what is asked for in this frame."""
    while frame is not None and _is_on_behalf(frame):
        frame = frame.f_back
    if frame is None or frame.f_code is _contiguous.__code__:
        return False
    if not _is_afterwards(frame):
        return True
    if not expression.free_symbols:
        return False
    return not isinstance(outcome, bool) or (not _is_of_layout(frame) and _clamps(frame))


def _is_on_behalf(frame: FrameType) -> bool:
    return frame.f_code.co_filename in _ON_BEHALF or frame.f_code.co_name == "__torch_function__"


def _is_afterwards(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_TORCH) and name[len(_TORCH) :].partition(os.sep)[0] in _AFTERWARDS


def _is_of_layout(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_LAYOUT)


def _clamps(frame: FrameType | None) -> bool:
    """Whether the call that is recorded just now is one whose result has one size or another."""
    while frame is not None and frame.f_code.co_filename.startswith(_TORCH):
        if frame.f_code.co_name == "proxy_call":
            return str(frame.f_locals.get("func")).removeprefix("aten.").startswith(_CLAMPED)
        frame = frame.f_back
    return False
