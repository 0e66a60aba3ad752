import pytest
import torch

from atofx.errors import ConfigError
from atofx.methods import subset_indices


def test_five_percent_sorted_unique_and_repeatable():
    chosen = subset_indices(1437, seed=3)
    assert len(chosen) == 72
    assert torch.equal(chosen, chosen.unique())
    assert torch.equal(chosen, subset_indices(1437, seed=3))
    assert not torch.equal(chosen, subset_indices(1437, seed=4))


def test_never_empty():
    assert subset_indices(3).tolist() in ([0], [1], [2])


@pytest.mark.parametrize(("size", "fraction"), [(0, 0.05), (10, 0.0), (10, 1.5)])
def test_refuses(size, fraction):
    with pytest.raises(ConfigError):
        subset_indices(size, fraction=fraction)
