"""What makes scores of different groups comparable, against numbers computed by hand."""

import pytest
import torch
from torch import nn

import atofx
from atofx.methods.shares import comparable
from tests.methods.nets import Plain

SCORES = {"conv1": torch.arange(12.0), "conv2": torch.arange(16.0), "conv3": torch.arange(20.0)}


@pytest.fixture
def program():
    return atofx.trace(Plain(), torch.zeros(1, 3, 8, 8))


def kept(scores, threshold):
    return {name: int((score > threshold).sum()) for name, score in scores.items()}


def test_elements_of_a_unit(program):
    """Convolution and relu, of 8 x 8 and 4 x 4 pixels; the last has its mean, too."""
    assert program.elements_per_unit() == {"conv1": 128.0, "conv2": 32.0, "conv3": 33.0}


def test_elements_grow_with_the_batch_and_leave_views_and_in_place_results_aside():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.fc = nn.Linear(4 * 25, 2)

        def forward(self, x):
            return self.fc(nn.functional.relu_(self.conv(x)).flatten(1))

    assert atofx.trace(Net(), torch.zeros(2, 3, 5, 5)).elements_per_unit() == {"conv": 50.0}


def test_uniform_keeps_one_share(program):
    scores = comparable(program, SCORES, "uniform")
    assert kept(scores, 0.5) == {"conv1": 6, "conv2": 8, "conv3": 10}
    assert scores["conv1"].argmax() == 11


def test_traffic_keeps_powers_of_that_share(program):
    """Elements 12 x 128, 16 x 32, 20 x 33 over FLOPs 12 x 4032, 16 x 4608, 20 x 2308: 1.973, 0.432, 0.888, to 2.5."""
    scores = comparable(program, SCORES, "traffic")
    share = 0.5
    wanted = {"conv1": 12 * share / 3, "conv2": 16 * share**0.1227, "conv3": 20 * share**0.743}  # conv1: 0.5^5.47 < 1/6
    assert kept(scores, 1 - share) == {name: round(count) for name, count in wanted.items()}
    order = {name: score.argsort().tolist() for name, score in scores.items()}
    assert order == {name: score.argsort().tolist() for name, score in SCORES.items()}


def test_traffic_of_a_group_alone_is_uniform(program):
    one = {"conv2": SCORES["conv2"]}
    assert torch.equal(comparable(program, one, "traffic")["conv2"], comparable(program, one, "uniform")["conv2"])


def test_powers_end_at_nine(program):
    """The first of two groups has nearly all elements: its power would be above 9."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep, self.out = nn.Conv2d(1, 8, 1), nn.Linear(8, 512), nn.Linear(512, 512)

        def forward(self, x):
            return self.out(self.deep(self.wide(x).mean((2, 3))))

    traced = atofx.trace(Net(), torch.zeros(1, 1, 32, 32))
    scores = comparable(traced, {"wide": torch.arange(8.0), "deep": torch.arange(512.0)}, "traffic")
    assert kept(scores, 0.05) == {"wide": round(8 * 0.95**9), "deep": round(512 * 0.95 ** (1 / 9))}
    # 0.3^9 would be none of 8: a third of 0.3
    assert kept(scores, 0.7) == {"wide": 1, "deep": round(512 * 0.3 ** (1 / 9))}


def test_a_group_without_flops_is_cut_no_deeper():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out, self.table = nn.Conv1d(3, 32, 1), nn.Linear(32, 2), nn.Embedding(10, 32)

        def forward(self, x, index):
            return self.out(self.conv(x).mean(2)) + self.table(index).square().sum((1, 2))[:, None]

    traced = atofx.trace(Net(), (torch.zeros(1, 3, 5), torch.zeros(1, 400, dtype=torch.long)))
    scores = comparable(traced, {g.name: torch.arange(float(g.size)) for g in traced.prunable}, "traffic")
    assert set(scores) == {"conv", "table"}
    assert kept(scores, 0.5)["table"] == 16


def test_global_scores_are_over_their_mean(program):
    scores = comparable(program, {"conv1": torch.tensor([1.0, 3.0])}, "global")
    assert scores["conv1"].tolist() == [0.5, 1.5]
