"""`--round-to auto` and `--latency`: measured numbers are said, used, and meet the target all the same."""

import json

import pytest

import atofx
from atofx.bench import Rounds, Setting, preferred_multiple
from atofx.train import run
from atofx.train.config import TrainConfig


@pytest.fixture
def likes_eights(tmp_path, monkeypatch):
    """A machine that was measured before, and is fast with multiples of 8."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    preferred_multiple(Setting(), Rounds(warm_up=0, least=1, most=1))
    file = tmp_path / "cache/atofx/widths.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    (key,) = content["measured"]
    content["measured"][key] = {"1": 1.5, "2": 1.5, "4": 1.2, "8": 1.0, "16": 1.0, "32": 1.0}
    file.write_text(json.dumps(content), encoding="utf-8")


def widths(folder):
    return [int(vector.sum()) for vector in atofx.Mask.load(folder / "mask.json").values() if vector.numel() >= 16]


def test_prune(atofx_command, likes_eights, tmp_path):
    result = atofx_command("prune", "resnet20", "--round-to", "auto", "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.stderr
    assert "--round-to auto: widths are multiples of 8" in result.stderr
    data = json.loads(result.stdout)
    assert data["limits"]["round_to"] == 8
    assert all(width % 8 == 0 for width in widths(tmp_path / "out"))
    assert data["flops_compact"] / data["flops_dense"] == pytest.approx(0.5, abs=0.02)


def test_train_leaves_the_number_in_its_configuration(likes_eights, tmp_path):
    config = {
        "model": "tests.train.nets:Small",
        "epochs": 2,
        "lr": 0.3,
        "latency_batch": 2,
        "method": "l2",
        "flops": 0.51,
    }
    run(TrainConfig.parse({**config, "round_to": "auto", "out": str(tmp_path / "out")}))
    assert TrainConfig.from_yaml(tmp_path / "out/config.yaml").round_to == 8
    assert all(width % 8 == 0 for width in widths(tmp_path / "out"))
    run(TrainConfig.parse({**config, "round_to": "auto", "out": str(tmp_path / "out"), "resume": True}))


@pytest.mark.parametrize("command", [("prune", "resnet20", "--out", "x"), ("bench", "resnet20")])
def test_other_words_are_refused(atofx_command, command):
    result = atofx_command(*command, "--round-to", "fast")
    assert result.exit_code == 2
    assert "round_to 'fast' is no number" in result.stderr


def test_a_configuration_with_another_word_is_refused():
    with pytest.raises(atofx.errors.ConfigError, match="neither a number nor auto"):
        TrainConfig.parse({"round_to": "fast"})
    with pytest.raises(atofx.errors.ConfigError, match="round_to"):
        TrainConfig.parse({"round_to": 0})


def test_flops_and_latency_exclude_each_other(atofx_command, tmp_path):
    result = atofx_command("prune", "resnet20", "--flops", "0.5", "--latency", "0.5", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "--flops and --latency each say how much is cut" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_latency_target_is_a_share(atofx_command, tmp_path):
    result = atofx_command("prune", "resnet20", "--latency", "1.5", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "above 0 and below 1, not 1.5" in result.stderr


@pytest.mark.slow
def test_the_back_end_that_widths_suit_is_the_one_that_is_timed(atofx_command, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    setting = Setting("onnxruntime")
    preferred_multiple(setting, Rounds(warm_up=0, least=1, most=1))
    options = ("--latency", "0.9", "--round-to", "auto:onnxruntime", "--out", str(tmp_path / "out"), "--json")
    result = atofx_command("prune", "resnet20", *options)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["latency"]["backend"] == "onnxruntime"
