"""``granularity=``: whole heads, or one dimension of every head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import atofx
from atofx.errors import ConfigError
from tests import invariants
from tests.models import FAMILIES, Case

CASES = [case for case in FAMILIES["attention"] if not case.may_refuse]


def build(case: Case) -> tuple[nn.Module, object]:
    torch.manual_seed(1)
    model = case.build().double().eval()
    invariants.randomise(model, 1)
    return model, case.inputs(2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_attention_is_exact_by_dimensions_too(case: Case) -> None:
    model, inputs = build(case)
    program = atofx.trace(model, inputs, granularity="dims")
    for keep, seed in ((0.5, 0), (0.2, 1)):
        report = program.verify(program.random_mask(keep, seed))
        assert report.ok, report


class Attention(nn.Module):
    """Two blocks of separate projections: two heads of four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.first(x, x, x, need_weights=False)[0]
        return self.head(x + self.second(x, x, x, need_weights=False)[0])


def units(program: atofx.Program, module: str) -> list[int]:
    return sorted(group.size for group in program.prunable if group.name.startswith(module))


def test_queries_and_values_are_groups_of_their_own() -> None:
    program = atofx.trace(Attention(), torch.randn(2, 5, 6), granularity="dims")
    assert units(program, "first") == [4, 4]
    assert units(program, "second") == [4, 4]


def test_by_name_pattern() -> None:
    program = atofx.trace(Attention(), torch.randn(2, 5, 6), granularity={"*": "dims", "second": "heads"})
    assert units(program, "first") == [4, 4]
    assert units(program, "second") == [2]
    assert program.verify(program.random_mask(0.5)).ok


def test_saved_with_the_groups(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = Attention().eval(), torch.randn(2, 5, 6)
    program = atofx.trace(model, inputs, granularity={"first": "dims"})
    mask = program.random_mask(0.5)
    atofx.save(program, mask, tmp_path / "compact.safetensors")
    loaded = atofx.load(tmp_path / "compact.safetensors", Attention)
    assert torch.equal(loaded.eval()(inputs), program.compact(mask)(inputs))


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match="'heads' and 'dims', not 'tokens'"):
        atofx.trace(Attention(), torch.randn(2, 5, 6), granularity="tokens")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nearest is 'first'"):
        atofx.trace(Attention(), torch.randn(2, 5, 6), granularity={"fist": "dims"})
