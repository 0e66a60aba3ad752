"""Saving and loading: masks as JSON, compact models as safetensors, one clear error for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import atofx
from atofx import storage
from atofx.errors import ConfigError, FileError, MaskError


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def other() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.ReLU(), nn.Conv2d(9, 4, 3))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, atofx.Program, atofx.Mask]:
    program = atofx.trace(net().eval(), torch.randn(1, 3, 8, 8))
    mask = program.random_mask()
    path = tmp_path / "small.safetensors"
    atofx.save(program, mask, path)
    return path, program, mask


def test_round_trip(saved: tuple[Path, atofx.Program, atofx.Mask]) -> None:
    path, program, mask = saved
    x = torch.randn(3, 3, 10, 10)
    assert torch.equal(atofx.load(path, lambda: net().eval())(x), program.compact(mask)(x))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_another_model(saved: tuple[Path, atofx.Program, atofx.Mask]) -> None:
    with pytest.raises(FileError, match="another model"):
        atofx.load(saved[0], other)


def test_missing_truncated_and_foreign_files(saved: tuple[Path, atofx.Program, atofx.Mask], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere"):
        atofx.load(tmp_path / "nowhere", net)
    cut = tmp_path / "cut"
    cut.write_bytes(saved[0].read_bytes()[:-100])
    with pytest.raises(FileError, match="cut"):
        atofx.load(cut, net)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(FileError, match="not a compact model"):
        atofx.load(tmp_path / "foreign", net)


def test_a_wrong_mask_writes_nothing(saved: tuple[Path, atofx.Program, atofx.Mask], tmp_path: Path) -> None:
    target = tmp_path / "never"
    with pytest.raises(MaskError):
        atofx.save(saved[1], {"0": torch.zeros(8, dtype=torch.bool)}, target)
    assert not target.exists()


def test_masks_as_json(saved: tuple[Path, atofx.Program, atofx.Mask], tmp_path: Path) -> None:
    mask = saved[2]
    assert atofx.Mask.from_json(mask.to_json()) == mask
    mask.save(tmp_path / "mask.json")
    assert atofx.Mask.load(tmp_path / "mask.json") == mask
    for text in ("", "[]", '{"format": "other", "groups": {}}', mask.to_json()[:-5]):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FileError, match=r"bad\.json"):
            atofx.Mask.load(tmp_path / "bad.json")
    with pytest.raises(FileError, match="nowhere"):
        atofx.Mask.load(tmp_path / "nowhere.json")


def test_what_is_given_wrongly_is_told(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    program = atofx.trace(model, torch.randn(2, 3))
    with pytest.raises(FileError, match="no folder"):
        atofx.save(program, program.full_mask(), tmp_path / "missing" / "compact.safetensors")
    path = tmp_path / "compact.safetensors"
    atofx.save(program, program.full_mask(), path)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    with pytest.raises(ConfigError, match="a function that makes the dense Sequential"):
        atofx.load(path, model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"size": 16, "dropped": [-1]}, "indices from 0 to 15"),
        ({"size": 16, "dropped": [16]}, "indices from 0 to 15"),
        ({"size": 16, "dropped": [1.7]}, "indices from 0 to 15"),
        ({"size": 16, "dropped": [True, False]}, "indices from 0 to 15"),
        ({"size": 16, "dropped": 3}, "indices from 0 to 15"),
        ({"size": "16", "dropped": []}, "the size of group 'a' is '16'"),
        ({"size": -16, "dropped": []}, "the size of group 'a' is -16"),
        ({"size": 10**15, "dropped": []}, "RuntimeError"),
    ],
)
def test_a_mask_file_holds_nothing_but_what_is_written_into_one(entry, problem):
    with pytest.raises(FileError, match=f"not a mask in JSON .*{problem}"):
        atofx.Mask.from_json(json.dumps({"format": "atofx-mask/1", "groups": {"a": entry}}))


def test_groups_of_a_mask_file_are_a_mapping():
    with pytest.raises(FileError, match="not a mask in JSON"):
        atofx.Mask.from_json(json.dumps({"format": "atofx-mask/1", "groups": [1]}))


def test_a_mask_that_cannot_be_saved(tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        atofx.Mask({"a": torch.ones(2)}).save(tmp_path / "missing" / "mask.json")


def test_a_model_of_other_shapes_is_named_with_the_tensor(tmp_path):
    def net(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3))

    program = atofx.trace(net(3).eval(), torch.randn(1, 3, 8, 8))
    atofx.save(program, program.random_mask(0.5), tmp_path / "small.safetensors")
    with pytest.raises(FileError, match=r"0.weight is \(3, 3, 3, 3\) there and \(3, 1, 3, 3\) here"):
        storage.read(tmp_path / "small.safetensors", lambda: net(1).eval(), torch.randn(1, 1, 8, 8))
    with pytest.raises(FileError, match="is a folder; name the file in it"):
        atofx.load(tmp_path, lambda: net(3))
