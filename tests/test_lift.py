"""``Program.dense_state_dict``: the weights of a compact model, back in the dense one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

import atofx
from atofx import zoo
from atofx.nn import renew_
from atofx.testing import relative_error
from tests import invariants
from tests.models import FAMILIES

# Every call changes what the next one gives.
SKIPPED = {"running_average_by_hand"}


def check(model: nn.Module, inputs: object, name: str) -> None:
    """New weights in the compact model; the dense one computes the same with them, and gives them back."""
    program = atofx.trace(model, inputs)
    if not program.prunable:
        return
    mask = program.random_mask(0.5)
    small = program.compact(mask)
    renew_(small, seed=5)
    for key, buffer in small.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    expected = invariants.call(small, inputs)
    missing = model.load_state_dict(program.dense_state_dict(mask, small.state_dict()), strict=False)
    assert not missing.missing_keys, name
    assert relative_error(invariants.call(model, inputs), expected) <= 1e-9, name
    again = program.compact(mask)
    assert relative_error(invariants.call(again, inputs), expected) <= 1e-12, name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_difficulty(family: str) -> None:
    for case in FAMILIES[family]:
        if not case.may_refuse and "eval" in case.modes and case.name not in SKIPPED:
            torch.manual_seed(1)
            check(case.build().double().eval(), case.inputs(2), case.name)


@pytest.mark.parametrize("build", [zoo.resnet20, zoo.mobilenetv2, models.densenet121])
def test_strictly_loaded(build: type[nn.Module]) -> None:
    model = build().double().eval()
    check(model, torch.randn(1, 3, 32, 32).double(), "model")
    program = atofx.trace(model, torch.randn(1, 3, 32, 32).double())
    mask = program.random_mask()
    model.load_state_dict(program.dense_state_dict(mask, program.compact(mask).state_dict()))
