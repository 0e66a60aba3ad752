"""Equality helpers for people who add operations, passes or methods."""

from __future__ import annotations

from typing import Any

from atofx.errors import VerifyError
from atofx.passes.verify import TOLERANCE, VerifyReport, largest_error
from atofx.program import Program, SoftMask


def relative_error(a: Any, b: Any) -> float:
    """Largest absolute difference over all tensors in two nested results, relative to the largest value of ``b``."""
    return largest_error(a, b)


def assert_exact(program: Program, mask: SoftMask, tol: float = TOLERANCE) -> VerifyReport:
    """Check that compact, zeroed and gated agree in float64 and that costs are as predicted.

    Raises:
        VerifyError: they do not; the message holds the report.
    """
    report = program.verify(mask)
    costs = report.flops_predicted == report.flops_counted and report.params_predicted == report.params_counted
    if report.error > tol or not costs:
        raise VerifyError(str(report))
    return report
