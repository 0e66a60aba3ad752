"""torchvision models and the zoo in float64: exact, costs as predicted, pruned as deeply as promised."""

from __future__ import annotations

import pytest
import torch

from atofx import zoo
from tests import invariants
from tests.torchvision_models import KEEPS, MODELS, SEEDS, Entry, build, inputs

QUICK = ("resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "squeezenet1_0", "regnet_y_400mf", "densenet121", "swin_t")
QUICK_ZOO = ("resnet20", "mobilenetv2")


def check(model: torch.nn.Module, entry: Entry, seeds: tuple[int, ...], keeps: tuple[float, ...]) -> None:
    """Hold promises 1, 2, 3, 4 and 6, and the depth of pruning the entry asks for."""
    model.eval()
    subject = invariants.trace(model, inputs(entry.shape), entry.modes)
    program = subject.program
    invariants.well_formed(subject)
    invariants.explained(subject)
    for seed in seeds:
        invariants.randomise(model, seed)
        for keep in keeps:
            invariants.check_mask(subject, program.random_mask(keep=keep, seed=seed))
    invariants.full_mask_is_dense(subject)
    mask = program.random_mask(keep=0.5, seed=seeds[0])
    assert invariants.effect(subject, mask) > 1e-3
    if entry.most is not None:
        assert program.params(mask) / program.params() <= entry.most


@pytest.mark.parametrize("name", QUICK)
def test_torchvision_model(name: str) -> None:
    check(build(name), MODELS[name], seeds=(0,), keeps=(0.5,))


@pytest.mark.parametrize("name", QUICK_ZOO)
def test_zoo_model(name: str) -> None:
    check(zoo.build(name).double(), Entry((3, 32, 32)), seeds=(0,), keeps=(0.5,))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_torchvision_model(name: str) -> None:
    check(build(name), MODELS[name], SEEDS, KEEPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.names())
def test_every_zoo_model(name: str) -> None:
    check(zoo.build(name).double(), Entry((3, 32, 32)), SEEDS, KEEPS)
