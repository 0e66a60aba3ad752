"""``Program.dense_state_dict``: the weights of a compact model, back in the dense one."""

from __future__ import annotations

import copy

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


def lift_errors(program: atofx.Program, model: nn.Module) -> tuple[float, float]:
    """New weights in the compact model: how far the dense one with them is from it, and what is cut from that again.

    Every call is one of a copy, as some nets change as they run.
    """
    inputs, mask = program.example_inputs, program.random_mask(0.5)
    small = program.compact(mask)
    renew_(small, seed=5)
    for key, buffer in small.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    model.load_state_dict(program.dense_state_dict(mask, small.state_dict()))
    expected, dense, again = (
        invariants.call(copy.deepcopy(module), inputs) for module in (small, model, program.compact(mask))
    )
    return relative_error(dense, expected), relative_error(again, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_difficulty(family: str) -> None:
    compared = 0
    for case in FAMILIES[family]:
        if not case.may_refuse and "eval" in case.modes:
            torch.manual_seed(1)
            model = case.build().double().eval()
            dense, again = lift_errors(atofx.trace(model, case.inputs(2)), model)
            assert dense <= 1e-9, case.name
            assert again <= 1e-12, case.name
            compared += 1
    assert compared


@pytest.mark.parametrize("build", [zoo.resnet20, zoo.mobilenetv2, models.densenet121])
def test_strictly_loaded(build: type[nn.Module]) -> None:
    model = build().double().eval()
    program = atofx.trace(model, torch.randn(1, 3, 32, 32).double())
    dense, again = lift_errors(program, model)
    assert dense <= 1e-9
    assert again <= 1e-12
    state = program.dense_state_dict(program.random_mask(), program.compact(program.random_mask()).state_dict())
    loaded = model.load_state_dict(state)  # every key, and no other
    assert not loaded.missing_keys
    assert not loaded.unexpected_keys
