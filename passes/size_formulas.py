"""Formulas of sizes as torch.export keeps them -> nodes that compute the same numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy
import torch

from atofx.passes.export_decisions import SizeDecision

#: Applies a function to its arguments.
Call = Callable[[Any, tuple[Any, ...]], Any]

_FUNCTIONS: dict[str, Any] = {
    "Equality": operator.eq, "Unequality": operator.ne, "StrictGreaterThan": operator.gt, "GreaterThan": operator.ge,
    "StrictLessThan": operator.lt, "LessThan": operator.le, "Not": operator.not_,
    "FloorDiv": operator.floordiv, "CleanDiv": operator.floordiv, "Mod": operator.mod, "PythonMod": operator.mod,
    "IntTrueDiv": operator.truediv, "FloatTrueDiv": operator.truediv,
    "FloatPow": operator.pow, "PowByNatural": operator.pow, "LShift": operator.lshift, "RShift": operator.rshift,
    "ToFloat": torch.sym_float, "TruncToInt": math.trunc, "FloorToInt": math.floor, "CeilToInt": math.ceil,
    "RoundToInt": round,
}  # fmt: skip
_REPEATED: dict[str, Any] = {
    "Add": operator.add, "Mul": operator.mul, "Max": torch.sym_max, "Min": torch.sym_min,
    "And": operator.and_, "Or": operator.or_,
}  # fmt: skip
_UNARY = "OpaqueUnaryFn_"  # functions of Python's math


class Formulas:
    """Makes nodes of formulas; what several have in common is computed once.

    Args:
        sizes: what stands for every symbol: a proxy, or a number.
        call: makes a node, or computes the number.
    """

    def __init__(self, sizes: dict[sympy.Symbol, Any], call: Call) -> None:
        self._found: dict[sympy.Basic, Any] = dict(sizes)
        self._call = call

    def __call__(self, formula: sympy.Basic) -> Any:
        """The node of a formula, or its number.

        Raises:
            KeyError: it has a function or a symbol that is not known here.
        """
        if formula not in self._found:
            self._found[formula] = self._made(formula)
        return self._found[formula]

    def _made(self, formula: sympy.Basic) -> Any:
        if formula in (sympy.true, sympy.false):
            return bool(formula)
        if isinstance(formula, (sympy.Integer, sympy.Float)):
            return int(formula) if isinstance(formula, sympy.Integer) else float(formula)
        name = type(formula).__name__
        if name == "Pow" and isinstance(formula.args[1], sympy.Integer) and formula.args[1] >= 0:
            return self._call(operator.pow, (self(formula.args[0]), int(formula.args[1])))
        if name.startswith(_UNARY):
            return self._call(vars(math)[name.removeprefix(_UNARY)], (self(formula.args[0]),))
        if name in _REPEATED:
            return reduce(lambda a, b: self._call(_REPEATED[name], (a, b)), map(self, formula.args))
        return self._call(_FUNCTIONS[name], tuple(map(self, formula.args)))


@dataclass(frozen=True, eq=False)
class SizeChecks:
    """What must be checked of later inputs.

    Attributes:
        numbers: decisions, with the number that nodes compute for the example.
        fixed: symbols of sizes that must be the example's, since something was decided by them that no node computes.
    """

    numbers: tuple[tuple[SizeDecision, float], ...]
    fixed: frozenset[sympy.Basic]

    def fixes(self, size: Any) -> bool:
        """Whether a size must be the example's."""
        return isinstance(size, torch.SymInt) and not self.fixed.isdisjoint(size.node.expr.free_symbols)


def checks_of(decisions: Iterable[SizeDecision], sizes: dict[sympy.Symbol, int]) -> SizeChecks:
    """How to check decisions.

    Args:
        decisions: what torch.export decided by sizes.
        sizes: the example's sizes.
    """
    numbers, fixed = [], set[sympy.Basic]()
    for decision in decisions:
        number = _number(decision, sizes)
        if number is None:
            fixed.update(decision.expression.free_symbols)
        else:
            numbers.append((decision, number))
    return SizeChecks(tuple(numbers), frozenset(fixed))


def _number(decision: SizeDecision, sizes: dict[sympy.Symbol, int]) -> float | None:
    """What nodes would compute for these sizes; None if they would not compute what torch.export did."""
    try:
        number: float = Formulas(sizes, lambda function, args: function(*args))(decision.expression)
    except KeyError:
        return None
    return number if math.isclose(number, decision.outcome, rel_tol=1e-9) else None
