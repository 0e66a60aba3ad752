"""Weights that are a length times a direction: rows go with their lengths, exactly, in every kind of layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import atofx
from tests.models.case import conv

norm = parametrizations.weight_norm


def _in_a_row(*layers: nn.Module, out: nn.Module) -> nn.Module:
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())), out)


class Gated(nn.Module):
    """Dilated convolutions with gates, residual and skip connections, as in WaveNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = norm(nn.Conv1d(3, 8, 1)), norm(nn.Conv1d(8, 2, 1))
        self.wide = nn.ModuleList(norm(nn.Conv1d(8, 12, 3, padding=2**i, dilation=2**i)) for i in range(2))
        self.narrow = nn.ModuleList(norm(nn.Conv1d(6, 16, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.first(x), torch.zeros(())
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            a, b = wide(x).chunk(2, dim=1)
            ahead, skip = narrow(torch.tanh(a) * torch.sigmoid(b)).chunk(2, dim=1)
            x, skips = x + ahead, skips + skip
        return self.last(torch.relu(skips))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = norm(nn.Linear(3, 6)), norm(nn.Linear(6, 6)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for _ in range(2):
            x = x + torch.relu(self.again(x))
        return self.last(x)


#: What is built, the shape of its input, the sizes of the groups.
NETS: dict[str, tuple[Callable[[], nn.Module], Sequence[int], Sequence[int]]] = {
    **{
        f"dim_{dim}": (
            lambda dim=dim: _in_a_row(norm(conv(3, 8), dim=dim), norm(conv(8, 6), dim=dim), out=conv(6, 2)),
            (2, 3, 6, 6),
            (8, 6),
        )
        for dim in (0, 1, 2, -1, None)
    },
    "no_bias": (
        lambda: _in_a_row(
            nn.Sequential(norm(nn.Conv2d(3, 8, 3, bias=False)), nn.BatchNorm2d(8)), norm(conv(8, 6)), out=conv(6, 2)
        ),
        (2, 3, 6, 6),
        (8, 6),
    ),
    "linear": (lambda: _in_a_row(norm(nn.Linear(3, 8)), norm(nn.Linear(8, 6)), out=nn.Linear(6, 2)), (4, 3), (8, 6)),
    "transposed": (
        lambda: _in_a_row(
            norm(nn.ConvTranspose1d(3, 8, 4, 2)), norm(nn.ConvTranspose1d(8, 6, 4, 2), dim=1), out=nn.Conv1d(6, 2, 3)
        ),
        (2, 3, 7),
        (8, 6),
    ),
    "depthwise": (
        lambda: _in_a_row(norm(conv(3, 8)), norm(nn.Conv2d(8, 8, 3, groups=8)), out=conv(8, 2)),
        (2, 3, 6, 6),
        (8,),
    ),
    "whole_groups": (
        lambda: _in_a_row(norm(conv(3, 8)), norm(nn.Conv2d(8, 12, 3, groups=4)), out=conv(12, 2)),
        (2, 3, 6, 6),
        (4,),
    ),
    "in_every_group": (
        lambda: _in_a_row(norm(conv(3, 8)), norm(nn.Conv2d(8, 12, 3, groups=2)), out=conv(12, 2)),
        (2, 3, 6, 6),
        (4, 6),
    ),
    "transposed_depthwise": (
        lambda: _in_a_row(norm(conv(3, 8)), norm(nn.ConvTranspose2d(8, 8, 3, groups=8), dim=1), out=conv(8, 2)),
        (2, 3, 6, 6),
        (8,),
    ),
    "gated": (Gated, (2, 3, 12), (8, 6, 8, 6, 8)),
    "loop": (Loop, (4, 3), (6,)),
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("name", NETS)
def test_rows_go_with_their_lengths(name: str, frontend: str) -> None:
    build, shape, sizes = NETS[name]
    torch.manual_seed(0)
    program = atofx.trace(build().double(), torch.randn(*shape, dtype=torch.float64), frontend=frontend)
    assert sorted(group.size for group in program.prunable) == sorted(sizes)
    for seed in range(4):
        mask = program.random_mask(keep=(0.5, 0.2)[seed % 2], seed=seed)
        report = program.verify(mask)
        assert report.ok, str(report)


@pytest.mark.parametrize("name", NETS)
def test_compact_models_learn_as_gated_ones_do(name: str) -> None:
    build, shape, _ = NETS[name]
    torch.manual_seed(0)
    program = atofx.trace(build().double(), torch.randn(*shape, dtype=torch.float64))
    mask = program.random_mask(keep=0.5, seed=1)
    x = torch.randn(*shape, dtype=torch.float64)
    compact, gated = program.compact(mask), program.gated(mask)
    for module in (compact, gated):
        module(x).square().sum().backward()
    small, whole = dict(compact.named_parameters()), dict(gated.named_parameters())
    lengths = 0
    for key, place in program.state_dict_map(mask).items():
        if place.key in small and key in whole:
            expected = whole[key].grad
            assert expected is not None
            for dim, kept in enumerate(place.kept):
                expected = expected if kept is None else expected.index_select(dim, kept)
            torch.testing.assert_close(small[place.key].grad, expected, rtol=1e-9, atol=1e-12)
            lengths += key.endswith("original0")
    assert lengths


@pytest.mark.filterwarnings("ignore:.*is deprecated in favor of:FutureWarning")
def test_the_old_weight_norm() -> None:
    torch.manual_seed(0)
    old = nn.utils.weight_norm
    program = atofx.trace(_in_a_row(old(conv(3, 8)), old(conv(8, 6)), out=conv(6, 2)), torch.randn(2, 3, 6, 6))
    assert [group.size for group in program.prunable] == [8, 6]
    report = program.verify(program.random_mask(keep=0.5))
    assert report.ok, str(report)


class Whole(nn.Module):
    """Directions that stay whole: what is only cut here is zero elsewhere, or would be zero divided by zero."""

    def __init__(self, weight: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.v, self.g = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.rand(6, 1) + 0.5)
        self.scale, self.last, self.weight = nn.Parameter(torch.rand(6, 1) + 0.5), nn.Linear(6, 2), weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(F.linear(x, self.weight(self, torch._weight_norm(self.v, self.g)))))


class Twice(Whole):
    def __init__(self) -> None:
        super().__init__(lambda self, w: w + self.v)


class Computed(Whole):
    def __init__(self) -> None:
        super().__init__(lambda self, w: torch._weight_norm(self.v * self.scale, self.g))


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize(("net", "reason"), [(Twice, "divides in one place"), (Computed, "not a finite number")])
def test_directions_that_would_be_zero_stay(net: type[Whole], reason: str, frontend: str) -> None:
    torch.manual_seed(0)
    program = atofx.trace(net().double(), torch.randn(4, 3, dtype=torch.float64), frontend=frontend)
    assert not program.prunable
    assert any(reason in str(group.reason) for group in program.groups)
