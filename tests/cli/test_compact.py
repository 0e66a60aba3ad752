"""`atofx compact`: what is zero in a checkpoint goes, and nothing else."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import atofx
from atofx import zoo
from atofx.train import run
from atofx.train.config import TrainConfig
from tests.cli.nets import small

SMALL = ("--model", "tests.cli.nets:small", "--input-shape", "1,3,8,8")


@pytest.fixture
def sparse(tmp_path):
    """Two of eight filters, with their biases, are zero; a third has a bias left."""
    model = small()
    with torch.no_grad():
        for dead in (1, 4):
            model[0].weight[dead] = 0
            model[0].bias[dead] = 0
        model[0].weight[6] = 0
        model[0].bias[6] = 1
    save_file(model.state_dict(), tmp_path / "sparse.safetensors")
    return model.eval()


def test_finds_and_removes_what_is_zero(atofx_command, tmp_path, sparse):
    result = atofx_command("compact", str(tmp_path / "sparse.safetensors"), *SMALL, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    assert "0           8      2   25.0 %" in result.stdout
    assert "The compact model computes what the checkpoint computes" in result.stdout
    compact = atofx.load(tmp_path / "out/model.safetensors", small).eval()
    assert compact.get_submodule("0").out_channels == 6
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(compact(images), sparse(images))
    assert atofx.Mask.load(tmp_path / "out/mask.json")["0"].tolist() == [i not in (1, 4) for i in range(8)]


def test_as_json(atofx_command, tmp_path, sparse):
    path = str(tmp_path / "sparse.safetensors")
    result = atofx_command("compact", path, *SMALL, "--out", str(tmp_path / "out"), "--json")
    data = json.loads(result.stdout)
    assert data == json.loads((tmp_path / "out/result.json").read_text(encoding="utf-8"))
    assert data["groups"] == [{"name": "0", "units": 8, "zero": 2}]
    assert (data["units"], data["units_kept"], data["ok"]) == (8, 6, True)
    assert data["flops_compact"] == data["flops_dense"] * 6 // 8


def test_checkpoint_of_a_run(atofx_command, tmp_path):
    config = {
        "model": "tests.train.nets:Small",
        "epochs": 2,
        "method": "hesso",
        "latency_batch": 1,
        "threads": 1,
    }
    trained = run(TrainConfig.parse({**config, "out": str(tmp_path / "run")}))
    shape = ("--model", "tests.train.nets:Small", "--input-shape", "1,1,8,8")
    path = str(tmp_path / "run/last.safetensors")
    assert Path(path).stat().st_mode == (tmp_path / "run/config.yaml").stat().st_mode
    result = atofx_command("compact", path, *shape, "--out", str(tmp_path / "out"), "--json")
    assert json.loads(result.stdout)["flops_compact"] == trained.flops_compact
    assert atofx.Mask.load(tmp_path / "out/mask.json") == atofx.Mask.load(tmp_path / "run/mask.json")


def test_a_frozen_layer_stays(atofx_command, tmp_path, sparse):
    path = str(tmp_path / "sparse.safetensors")
    result = atofx_command("compact", path, *SMALL, "--out", str(tmp_path / "out"), "--freeze", "0")
    assert result.exit_code == 2
    assert "is zero: none of the 0 units" in result.stderr


def test_nothing_is_zero(atofx_command, tmp_path):
    save_file(small().state_dict(), tmp_path / "dense.safetensors")
    result = atofx_command("compact", str(tmp_path / "dense.safetensors"), *SMALL, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "is zero: none of the 8 units of tests.cli.nets:small" in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_refused(atofx_command, tmp_path):
    out = ("--out", str(tmp_path / "out"))
    missing = atofx_command("compact", str(tmp_path / "none.safetensors"), *SMALL, *out)
    assert missing.exit_code == 2
    assert "none.safetensors' (CHECKPOINT)" in missing.stderr
    save_file(small(4).state_dict(), tmp_path / "other.safetensors")
    other = atofx_command("compact", str(tmp_path / "other.safetensors"), *SMALL, *out)
    assert "do not fit the model: 0.weight is (4, 3, 3, 3) in the file, (8, 3, 3, 3) in the model" in other.stderr
    (tmp_path / "pickle.pt").write_bytes(b"x")
    pickled = atofx_command("compact", str(tmp_path / "pickle.pt"), *SMALL, *out)
    assert pickled.exit_code == 2
    assert "looks like a pickle" in pickled.stderr


def test_zero_mask_of_a_program():
    torch.manual_seed(0)
    model = zoo.build("resnet20").eval()
    program = atofx.trace(model, torch.randn(1, 3, 32, 32))
    assert program.zero_mask() == program.full_mask()
    mask = program.random_mask(keep=0.5, seed=1)
    model.load_state_dict(program.zeroed(mask).state_dict())
    assert program.zero_mask() == mask
    torch.nn.init.zeros_(model.layer1[0].conv1.weight)
    torch.nn.init.zeros_(model.layer1[0].bn1.weight)
    torch.nn.init.zeros_(model.layer1[0].bn1.bias)
    assert program.zero_mask().kept["layer1.0.conv1"] == 1  # a group that is zero as a whole keeps a unit
    assert program.verify(program.zero_mask()).ok
