"""Accuracy, the comparison of two models, and the controller's batches."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atofx.errors import ConfigError, VerifyError
from atofx.train.config import TrainConfig
from atofx.train.controller_data import ControllerBatches
from atofx.train.data import load_data
from atofx.train.evaluation import compare, top1
from atofx.train.plan import Share, Shuffled
from atofx.train.processes import Processes
from tests.train.nets import Small

CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Says class 0, or class 1 if nudged."""

    def __init__(self, nudge: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 64))
        self.nudge = nudge

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.zeros(len(x), 10, dtype=x.dtype)
        scores[:, 1] = self.nudge
        return scores


def test_top1_counts_every_image_once() -> None:
    data = load_data(TrainConfig(), CPU)
    share = int((torch.as_tensor(data.test.labels) == 0).sum()) / 360  # type: ignore[attr-defined]
    assert top1(Oracle(-1.0), data.test, 100, Processes.present()) == pytest.approx(100 * share)


def test_top1_restores_the_mode() -> None:
    model = Small().train()
    top1(model, load_data(TrainConfig(), CPU).test, 100, Processes.present())
    assert model.training


def test_disagreement_is_an_error() -> None:
    data = load_data(TrainConfig(), CPU)
    with pytest.raises(VerifyError, match=r"disagree on 360 of 360 test images, such as \[0, 1, 2, 3, 4\]"):
        compare(Oracle(-1.0), Oracle(1.0), data.test, 100, Processes.present())


def test_ties_that_rounding_decides_are_none() -> None:
    data = load_data(TrainConfig(), CPU)
    # The second one says class 1 everywhere, by a difference that is none in float64.
    first, second = compare(Oracle(0.0), Oracle(1e-13), data.test, 100, Processes.present())
    assert first == second


def test_equal_models_agree() -> None:
    data = load_data(TrainConfig(), CPU)
    model = Small()
    first, second = compare(model, copy.deepcopy(model), data.test, 128, Processes.present())
    assert first == second


def test_output_must_be_class_scores() -> None:
    data = load_data(TrainConfig(), CPU)
    with pytest.raises(ConfigError, match=r"not class scores \(images, classes\) but \(100, 1, 8, 8\)"):
        top1(nn.Identity(), data.test, 100, Processes.present())


def test_controller_batches_resume_where_they_were() -> None:
    data = load_data(TrainConfig(), CPU)
    order = Shuffled(np.arange(0, 1437, 20), 16, 0, 1, Share())
    whole = ControllerBatches(data.train, order)
    batches = [whole() for _ in range(7)]
    late = ControllerBatches(data.train, order)
    late.resume(5)
    for images, labels in batches[5:]:
        again = late()
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)
