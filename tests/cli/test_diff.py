"""`atofx diff`: equal and different masks, run folders, and what is refused."""

import json
from pathlib import Path

import torch

from atofx import Mask


def masks(folder: Path) -> tuple[str, str]:
    a = Mask({"stem": torch.tensor([1, 1, 0, 0]).bool(), "head": torch.tensor([1, 0]).bool()})
    b = Mask({"stem": torch.tensor([1, 0, 1, 1]).bool(), "head": torch.tensor([1, 0]).bool()})
    (folder / "run").mkdir()
    a.save(folder / "a.json")
    b.save(folder / "run" / "mask.json")
    return str(folder / "a.json"), str(folder / "run")


def test_groups_that_differ(atofx_command, tmp_path):
    a, b = masks(tmp_path)
    result = atofx_command("diff", a, b)
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["stem", "4", "2", "3", "1", "25.0", "%"] in lines
    assert ["all", "groups", "6", "3", "4", "2", "50.0", "%"] in lines
    assert "head" not in result.stdout
    assert result.stdout.endswith("One other group is equal.\n")


def test_as_json(atofx_command, tmp_path):
    a, b = masks(tmp_path)
    data = json.loads(atofx_command("diff", a, b, "--json").stdout)
    assert not data["equal"]
    assert {"name": "head", "units": 2, "first": 1, "second": 1, "both": 1, "agreement": 1.0} in data["groups"]
    assert {"name": "stem", "units": 4, "first": 2, "second": 3, "both": 1, "agreement": 0.25} in data["groups"]


def test_a_mask_equals_itself(atofx_command, tmp_path):
    a, _ = masks(tmp_path)
    assert "The masks are equal in all 2 groups." in atofx_command("diff", a, a).stdout


def test_masks_of_other_models_are_refused(atofx_command, tmp_path):
    a, _ = masks(tmp_path)
    for name, vectors, message in (
        ("wider", {"stem": torch.ones(5).bool(), "head": torch.ones(2).bool()}, "'stem' has 4 units in the first mask"),
        ("other", {"stem": torch.ones(4).bool()}, "the second mask has no group 'head'"),
    ):
        Mask(vectors).save(tmp_path / name)
        result = atofx_command("diff", a, str(tmp_path / name))
        assert result.exit_code == 2
        assert message in result.stderr


def test_files_that_are_no_masks_are_refused(atofx_command, tmp_path):
    a, _ = masks(tmp_path)
    assert "cannot read the mask" in atofx_command("diff", a, str(tmp_path / "none.json")).stderr
    (tmp_path / "text").write_text("hello")
    result = atofx_command("diff", a, str(tmp_path / "text"))
    assert result.exit_code == 2
    assert "not a mask in JSON" in result.stderr
