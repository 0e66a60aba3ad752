"""Every one-difficulty net keeps every promise."""

from __future__ import annotations

import pytest
import torch

import atofx
from atofx.errors import InputSizeError, TraceError
from tests import invariants
from tests.models import CASES, Case

SEEDS = (0, 1, 2)


def prepare(case: Case, seed: int) -> invariants.Subject:
    """Trace the net: for seed 0 with its first weights, so that a bias of zero at tracing time cannot count as zero."""
    torch.manual_seed(seed)
    model = case.build().double()
    model.train(case.modes[seed % len(case.modes)] == "train")
    inputs = case.inputs(2)
    if seed:
        invariants.randomise(model, seed)
    try:
        subject = invariants.trace(model, inputs, case.modes)
    except TraceError:
        if case.may_refuse:
            pytest.skip("refused with a reason, as it may be")
        raise
    if not seed:
        invariants.randomise(model, seed)
    return subject


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_small_net(case: Case) -> None:
    for seed in SEEDS:
        subject = prepare(case, seed)
        for keep in (0.5, 0.2 if seed < 2 else invariants.LEAST):
            invariants.check_mask(subject, subject.program.random_mask(keep=keep, seed=seed))
        if seed == 0:
            check_expectations(case, subject.program)
            check_other_shapes(case, subject)
        if seed == 1:
            mask = subject.program.random_mask(keep=0.5, seed=seed)
            invariants.check_program(subject, mask, seed)
            if invariants.has_consequence(subject.program, mask):
                assert invariants.effect(subject, mask) > 1e-6, "the mask changes nothing: the comparison is vacuous"


def check_expectations(case: Case, program: atofx.Program) -> None:
    """The axes named by the case are prunable, or pinned, as it says."""
    found = {axis: invariants.prunable_axis(program, axis) for axis in case.expect}
    wrong = {
        axis: (found[axis], wanted)
        for axis, wanted in case.expect.items()
        if (found[axis] != wanted if isinstance(wanted, tuple) else found[axis][0] != wanted)
    }
    assert not wrong, f"(coordinates, units) found and wanted: {wrong}\n{program.summary()}"


def check_other_shapes(case: Case, subject: invariants.Subject) -> None:
    """What was traced at one batch size and image size runs at others, if the net itself does."""
    mask = subject.program.random_mask(keep=0.5, seed=7)
    invariants.agree(subject, mask, case.inputs(3))
    larger = invariants.other_sizes(subject.model, subject.inputs)
    if larger is not None:
        invariants.agree(subject, mask, larger, refusals=(InputSizeError,) if case.one_size else ())


def test_there_are_enough_nets() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
