"""Folders that a command may not use are refused before any work, and nothing in them is touched."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import atofx
from atofx.cli.cut_folder import check_cut_folder
from atofx.errors import ConfigError, FileError
from atofx.ir.files import check_writable
from atofx.train import run
from atofx.train.config import TrainConfig


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "run"
    run(TrainConfig.parse({"model": "tests.train.nets:Small", "epochs": 1, "latency_batch": 2, "out": str(folder)}))
    return folder


def test_a_cut_leaves_a_run_alone(atofx_command, trained):
    before = contents(trained)
    for command in (("prune", "resnet20"), ("compact", str(trained / "last.safetensors"), "--model", "resnet20")):
        result = atofx_command(*command, "--out", str(trained))
        assert result.exit_code == 2
        assert "holds a run of `atofx train`; choose another folder with --out" in result.stderr
    assert contents(trained) == before


def test_a_run_leaves_a_cut_alone(atofx_command, tmp_path):
    folder = tmp_path / "cut"
    assert atofx_command("prune", "resnet20", "--out", str(folder)).exit_code == 0
    before = contents(folder)
    with pytest.raises(ConfigError, match="holds a model that was cut already"):
        run(TrainConfig.parse({"model": "tests.train.nets:Small", "epochs": 1, "out": str(folder)}))
    assert contents(folder) == before


def test_a_folder_that_is_a_file_is_refused_before_the_search(atofx_command, tmp_path):
    (tmp_path / "file").write_text("mine")
    for command in (("prune", "resnet20", "--latency", "0.5"), ("bench", "resnet20")):
        result = atofx_command(*command, "--out", str(tmp_path / "file" / "inside"))
        assert result.exit_code == 2
        assert "cannot make the folder" in result.stderr
        assert "is a file" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


@contextmanager
def ordinary_user():
    """Root may read and write everywhere; for a moment somebody who may not."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def locked():
    """A folder that others may look at but not write into, and in it one that they may not look at."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hidden = folder / "hidden"
        hidden.mkdir()
        (hidden / "mask.json").write_text("{}")
        hidden.chmod(0o000)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        hidden.chmod(0o755)


def test_a_folder_without_permission(locked):
    with ordinary_user():
        for check in (check_writable, check_cut_folder):
            with pytest.raises(FileError, match=r"cannot make the folder .*: no permission to write into"):
                check(locked / "out")
            with pytest.raises(FileError, match=r"cannot make the folder .*ermission"):
                check(locked / "hidden" / "out")


def test_what_may_not_be_read_is_one_message(atofx_command, locked):
    with ordinary_user():
        result = atofx_command("diff", str(locked / "hidden" / "mask.json"), str(locked))
    assert result.exit_code == 2
    assert "ermission" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_mask_may_be_named_by_its_folder(atofx_command, tmp_path):
    assert atofx_command("prune", "resnet20", "--out", str(tmp_path / "cut")).exit_code == 0
    result = atofx_command("verify", "resnet20", "--mask", str(tmp_path / "cut"), "--json")
    assert result.exit_code == 0, result.stderr
    kept = atofx.Mask.load(tmp_path / "cut" / "mask.json").kept
    assert f'"units_kept": {sum(kept.values())}' in result.stdout


def test_example_inputs_have_the_dtype_of_the_model(atofx_command):
    result = atofx_command("inspect", "tests.cli.nets:double", "--input-shape", "1,3,8,8")
    assert result.exit_code == 0, result.stderr
