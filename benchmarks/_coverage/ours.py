"""What atofx is asked about one model."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import atofx
from atofx.passes.compact import compact
from atofx.passes.outer import count
from benchmarks._coverage import measure, models
from tests import invariants

KEEP = 0.5
Report = Callable[..., None]


def ask(entry: models.Entry, report: Report) -> None:
    """Answer every question, reporting each as soon as it is known; a failure raises."""
    report(stage="build")
    sizes, model = models.sizes(entry), models.build(entry)
    report(stage="trace", native=sizes.native, check=sizes.check, batch=sizes.batch, params=_count(model))
    example = models.inputs(entry, sizes.native, 1, torch.float32)
    seconds = measure.median_seconds(lambda: atofx.trace(model, example))
    report(trace_seconds=seconds, trace_peak_gib=measure.peak_gib())
    invariants.randomise(model.double(), seed=0)
    inputs = models.inputs(entry, sizes.check, sizes.batch, torch.float64)
    wide = models.runs(model, inputs)
    if not wide:  # it makes float32 tensors of its own, which only a widened graph does not
        model.float()
        inputs = models.inputs(entry, sizes.check, sizes.batch, torch.float32)
    program = atofx.trace(model, inputs)
    report(stage="describe", **_described(program))
    mask = program.random_mask(keep=KEEP, seed=0)
    report(stage="compare", params_kept=round(program.params(mask) / program.params(), 4))
    if not wide:
        report(reference="program.zeroed, widened", **_verified(model, program, mask, inputs))
    elif measure.narrows(model, inputs):  # steps in float32 make the last digit of float64 one of float32
        report(reference="the user's model, its casts to fewer digits left out")
        with measure.Widened():
            report(**_compared(model, program, mask, inputs))
    else:
        report(reference="the user's model", **_compared(model, program, mask, inputs))
    report(stage="flops")
    predicted, counted = program.flops(mask), count(program.traced, compact(program.analysis, mask))
    report(
        flops=program.flops(),
        flops_kept=round(predicted / max(program.flops(), 1), 4),
        flops_as_counted=predicted == counted,
        flops_predicted=predicted,
        flops_counted=counted,
    )
    report(stage="done")


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _described(program: atofx.Program) -> dict[str, Any]:
    return {
        "frontend": program.frontend,
        "frontend_reason": program.frontend_reason,
        "groups": len(program.groups),
        "prunable_groups": len(program.prunable),
        "prunable_units": sum(group.size for group in program.prunable),
        "prunable_share": round(invariants.prunable_share(program), 4),
        "unknown_ops": sorted({note.op.partition(" (")[0] for note in program.notes}),
        "reasons": reasons(program),
    }


def reasons(program: atofx.Program) -> dict[str, dict[str, Any]]:
    """Why groups are pinned: per reason the number of groups and of parameters on a pinned axis, and one place."""
    found: dict[str, dict[str, Any]] = {}
    for group in program.groups:
        if group.prunable:
            continue
        text = re.sub(r" \([\w.]+\)\)$", ")", group.reason or "")  # without the module's path
        entry = found.setdefault(text, {"groups": 0, "elements": 0, "place": ""})
        entry["groups"] += 1
        touched = 0
        for member in group.members:
            share = float((member.unit >= 0).double().mean())
            touched += round(program.tensor(member.name).numel() * share)
        if touched >= entry.get("most", 0):
            first = group.members[0]
            entry["most"], entry["place"] = touched, f"{first.name}[{first.dim}]"
        entry["elements"] += touched
    return {
        text: {key: value for key, value in entry.items() if key != "most"}
        for text, entry in sorted(found.items(), key=lambda item: -item[1]["elements"])
    }


def _compared(model: nn.Module, program: atofx.Program, mask: atofx.Mask, inputs: Any) -> dict[str, Any]:
    """Errors against the user's own model, its producers set to zero in place (which ends its life)."""
    dense = measure.tensors(invariants.call(model, inputs))
    compact = program.compact(mask)
    params = sum(p.numel() for p in compact.parameters())
    small = measure.tensors(invariants.call(compact.eval(), inputs))
    del compact
    gated = measure.tensors(invariants.call(program.gated(mask).eval(), inputs))
    zero_in_place(program, mask)
    model.train().eval()  # timm's attention drops its cached bias
    reference = measure.tensors(invariants.call(model, inputs))
    if not measure.finite(reference):
        raise ArithmeticError("the zeroed model's outputs are not finite: nothing can be compared")
    error = invariants.relative_error(small, reference)
    return {
        "params_as_counted": params == program.params(mask),
        "error": error,
        "error_gated": invariants.relative_error(gated, reference),
        "effect": invariants.relative_error(dense, reference),
        "amplification": None if error <= invariants.TOLERANCE else invariants.amplification(model, inputs, "eval"),
        "peak_gib": measure.peak_gib(),
    }


def _verified(model: nn.Module, program: atofx.Program, mask: atofx.Mask, inputs: Any) -> dict[str, Any]:
    """Errors as ``program.verify`` finds them, for a model that does not run in float64 by itself."""
    verdict = program.verify(mask)
    dense, zeroed = (measure.tensors(invariants.call(m, inputs)) for m in (model, program.zeroed(mask).eval()))
    return {
        "params_as_counted": verdict.params_predicted == verdict.params_counted,
        "error": verdict.error,
        "error_gated": verdict.error,
        "effect": invariants.relative_error(dense, zeroed),
        "amplification": None,
        "peak_gib": measure.peak_gib(),
    }


def zero_in_place(program: atofx.Program, mask: atofx.Mask) -> None:
    """Zero the producers of dropped units in the user's own model."""
    with torch.no_grad():
        for group in program.prunable:
            for member in group.members:
                if member.role == "producer":
                    dropped = (member.unit >= 0) & ~mask[group.name][member.unit.clamp(min=0)]
                    program.tensor(member.name).index_fill_(member.dim, dropped.nonzero().flatten(), 0)
