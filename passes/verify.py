"""Check the promise on one mask: compact, zeroed and gated agree, FLOPs and parameters are as predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn

from atofx.ir.analysis import Analysis
from atofx.ir.copies import deepcopy
from atofx.passes.compact import compact
from atofx.passes.gate import insert_gates
from atofx.passes.inputs import ExampleInputs
from atofx.passes.merge import TracedRegions
from atofx.passes.outer import count, rebuild
from atofx.passes.record import call
from atofx.passes.trace import Traced
from atofx.passes.zeroed import zeroed

Graph = TypeVar("Graph", bound=fx.GraphModule)

#: Largest relative error in float64 that counts as equal.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class VerifyReport:
    """What :func:`verify` found.

    Attributes:
        error: largest relative error in float64 of compact against zeroed, and gated against zeroed.
        flops_predicted, flops_counted: multiply-adds (counted once) by the cost model and by fvcore on the compact
            module.
        params_predicted, params_counted: parameters by the cost model and counted in the compact module.
    """

    error: float
    flops_predicted: int
    flops_counted: int
    params_predicted: int
    params_counted: int

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return (
            self.error <= TOLERANCE
            and self.flops_predicted == self.flops_counted
            and self.params_predicted == self.params_counted
        )

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "NOT EQUAL"
        return (
            f"{verdict}: largest relative error {self.error:.1e} (float64, allowed {TOLERANCE:.0e}); "
            f"FLOPs (multiply-adds) predicted {self.flops_predicted:,}, counted {self.flops_counted:,}; "
            f"parameters predicted {self.params_predicted:,}, counted {self.params_counted:,}"
        )


def verify(
    traced: Traced, analysis: Analysis, vectors: Mapping[str, torch.Tensor], flops: int, params: int
) -> VerifyReport:
    """Compare compact and gated with zeroed, and the costs with those predicted.

    Args:
        traced: the traced model.
        analysis: its lineage and groups.
        vectors: bool per prunable group.
        flops: what the cost model says, multiply-adds counted once.
        params: what the cost model says.
    """
    small = compact(analysis, vectors)
    gated = insert_gates(analysis)
    gated.set_mask(vectors)
    others = (double_copy(compact(analysis, vectors, double=True)), double_copy(gated))
    expected = double_copy(zeroed(analysis, vectors))
    arguments = traced.arguments()
    error = difference(others, expected, arguments)
    if isinstance(traced, TracedRegions):
        whole, *rest = (rebuild(traced, module).eval() for module in (expected, *others))
        error = max(error, difference(rest, whole, traced.inputs))
    return VerifyReport(
        error=error,
        flops_predicted=flops,
        flops_counted=count(traced, small),
        params_predicted=params,
        params_counted=sum(p.numel() for p in rebuild(traced, small).parameters()),
    )


def difference(modules: Sequence[nn.Module], expected: nn.Module, inputs: ExampleInputs) -> float:
    """Largest relative error of any of the float64 modules on the inputs, infinite where even the form differs.

    Every module runs once: one may count its calls.
    """
    with torch.no_grad():
        wanted = call(expected, in_float64(inputs))
        try:
            return max(largest_error(call(module, in_float64(inputs)), wanted) for module in modules)
        except ValueError:
            return float("inf")


def largest_error(a: Any, b: Any) -> float:
    """Largest absolute difference over all tensors in two nested results, relative to the largest value of ``b``.

    That value counts as at least 1e-12. Numbers that are none in both are equal, infinite if there are no others.

    Raises:
        ValueError: the results differ in structure or shape.
    """
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a, b = a.detach(), b.detach()
        if a.shape != b.shape:
            raise ValueError(f"results of shape {tuple(a.shape)} and {tuple(b.shape)}")
        if a.numel() == 0:
            return 0.0
        if not a.dtype.is_floating_point and not a.dtype.is_complex:
            return 0.0 if torch.equal(a, b) else float("inf")
        if bool(b.isnan().all()):  # equal to nothing, and no evidence of anything
            return float("inf")
        same = (a == b) | (a.isnan() & b.isnan())
        difference = torch.where(same, torch.zeros_like(a), a - b).abs().max()
        scale = b[b.isfinite()].abs().max() if bool(b.isfinite().any()) else torch.ones(())
        error = float(difference / scale.clamp(min=1e-12))
        return float("inf") if error != error else error
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            raise ValueError(f"results with keys {sorted(a)} and {sorted(b)}")
        return max((largest_error(a[k], b[k]) for k in a), default=0.0)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        if len(a) != len(b):
            raise ValueError(f"results of length {len(a)} and {len(b)}")
        return max((largest_error(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if is_dataclass(a) and type(a) is type(b):
        return largest_error(vars(a), vars(b))
    return 0.0 if a == b else float("inf")


def in_float64(value: Any) -> Any:
    """A copy of nested inputs with every floating tensor in float64 on the CPU."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.to(torch.float64, copy=True) if value.dtype.is_floating_point else value.clone()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(in_float64(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(in_float64(v) for v in value)
    if isinstance(value, Mapping):
        return {k: in_float64(v) for k, v in value.items()}
    return value


def double_copy(module: Graph) -> Graph:
    """A float64 copy on the CPU in eval mode; casts to a smaller float inside the graph go to float64 too."""
    result = deepcopy(module).cpu().double().eval()
    for node in result.graph.nodes:
        if node.op == "call_method" and node.target in ("float", "half", "bfloat16"):
            node.target = "double"
        node.args = _widened(node.args)
        node.kwargs = _widened(dict(node.kwargs))
    result.recompile()
    return result


def _widened(value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(_widened(v) for v in value)
    if isinstance(value, dict):
        return {k: _widened(v) for k, v in value.items()}
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value
