"""Masks and scores from one program to another one of the same parameters."""

from __future__ import annotations

import pytest
import torch

import atofx
from atofx import zoo
from atofx.passes.carry import carried


def test_there_and_back_again() -> None:
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8))
    cut = program.without_blocks(["layer1.1", "layer3.2"])
    mask = program.random_mask(0.4, seed=3)
    here = atofx.Mask(carried(program.prunable, cut.prunable, mask, missing=True))
    gone = {"layer1.1.conv1", "layer3.2.conv1"}
    assert set(mask) - set(here) == gone
    assert all(torch.equal(here[name], mask[name]) for name in here)
    assert cut.flops(here) == program.flops(mask, blocks={"layer1.1": False, "layer3.2": False})
    back = carried(cut.prunable, program.prunable, here, missing=True)
    assert all(bool(back[name].all()) if name in gone else torch.equal(back[name], mask[name]) for name in mask)


def test_scores_keep_their_type_and_what_is_not_there_is_said() -> None:
    program = atofx.trace(zoo.resnet20(), torch.randn(1, 3, 8, 8))
    (group,) = (group for group in program.prunable if group.name == "layer2.1.conv1")
    scores = {group.name: torch.arange(group.size, dtype=torch.float64)}
    found = carried([group], program.prunable, scores, missing=torch.nan)
    assert torch.equal(found[group.name], scores[group.name])
    assert bool(found["conv1"].isnan().all())
    assert found["conv1"].dtype == torch.float64
    with pytest.raises(KeyError):
        carried(program.prunable, program.prunable, scores, missing=0.0)
