"""Runs from a configuration to a result, through every way a user can take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import atofx
from atofx.errors import ConfigError, FileError, TargetError
from atofx.train import run
from atofx.train.config import TrainConfig
from atofx.train.recipes import load_config
from atofx.train.result import RunResult
from tests.train.conftest import write_images
from tests.train.nets import Small

QUICK = {"model": "tests.train.nets:Small", "epochs": 3, "lr": 0.3, "latency_batch": 2}
RESULT_KEYS = {
    "dense_top1",
    "masked_top1",
    "compact_top1",
    "flops_dense",
    "flops_compact",
    "params_dense",
    "params_compact",
    "latency_dense_ms",
    "latency_compact_ms",
    "seconds",
}


def quick(out: Path, **values: Any) -> RunResult:
    return run(TrainConfig.parse({**QUICK, "out": str(out), **values}))


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_digits_with_ato_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(TrainConfig(epochs=4, out=str(tmp_path / "run")))
    written = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert set(written) >= RESULT_KEYS
    assert written["dense_top1"] is None
    assert result.masked_top1 == result.compact_top1 > 80
    assert result.flops_compact / result.flops_dense == pytest.approx(0.5, abs=0.005)
    assert result.params_compact < result.params_dense
    assert result.agreement == 100
    printed = capsys.readouterr().out
    assert "Target: 50.0% of all FLOPs, which is p = 0." in printed
    assert "multiply-adds" in printed
    assert "compact" in printed


def test_files_of_a_run(tmp_path: Path) -> None:
    result = quick(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "config.yaml",
        "last.safetensors",
        "best.safetensors",
        "metrics.jsonl",
        "tensorboard",
        "mask.json",
        "compact.safetensors",
        "result.json",
        "report.html",
    }
    assert list((tmp_path / "tensorboard").iterdir())
    assert TrainConfig.from_yaml(tmp_path / "config.yaml").out == str(tmp_path)
    epochs = [record for record in records(tmp_path) if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [1, 2, 3]
    assert epochs[-1]["masked_top1"] == pytest.approx(result.masked_top1)
    assert epochs[-1]["flops"] == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("method", ["ato", "l2"])
def test_limits_hold_to_the_end(tmp_path: Path, method: str) -> None:
    limits = {"freeze": ["conv1"], "only": ["conv?", "bn?"], "round_to": 4, "per_group": {"conv2": {"min_keep": 0.5}}}
    result = quick(tmp_path, method=method, flops=0.72, **limits)
    mask = atofx.Mask.load(tmp_path / "mask.json")
    assert mask.kept == {"conv2": 16}
    assert (result.freeze, result.only) == (("conv1",), ("conv?", "bn?"))
    written = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (written["freeze"], written["only"]) == (["conv1"], ["conv?", "bn?"])
    module = atofx.load(tmp_path / "compact.safetensors", Small)
    assert [module.get_parameter(f"conv{number}.weight").shape[0] for number in (1, 2)] == [16, 16]
    with pytest.raises(ConfigError, match=r"freeze was \('conv1',\), now \('conv2',\)"):
        quick(tmp_path, method=method, flops=0.72, resume=True, **{**limits, "freeze": ["conv2"]})
    again = quick(tmp_path, method=method, flops=0.72, resume=True, **limits)
    assert again.flops_compact == result.flops_compact


def test_a_target_below_what_limits_allow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="with the least that the limits allow"):
        quick(tmp_path / "run", min_keep=0.9)
    assert not (tmp_path / "run").exists()


def test_compact_model_can_be_loaded_and_big_one_agrees_unmasked(tmp_path: Path) -> None:
    quick(tmp_path)
    compact = atofx.load(tmp_path / "compact.safetensors", Small).eval()
    big = Small().eval()
    with safe_open(tmp_path / "last.safetensors", framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith("/model/")]  # noqa: SIM118
        big.load_state_dict({key.removeprefix("/model/"): file.get_tensor(key) for key in keys})
    mask = atofx.Mask.load(tmp_path / "mask.json")
    assert sum(mask.kept.values()) < sum(vector.numel() for vector in mask.values())
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(compact(images), big(images), atol=1e-5)


def test_baseline_trains_the_dense_network_too(tmp_path: Path) -> None:
    result = quick(tmp_path, baseline=True)
    assert result.dense_top1 is not None
    assert result.dense_top1 > 30
    assert (tmp_path / "baseline" / "last.safetensors").exists()
    dense = quick(tmp_path / "alone", method="none")
    assert dense.dense_top1 == dense.compact_top1 == result.dense_top1
    assert dense.flops_compact == dense.flops_dense


def test_the_callers_random_state_is_given_back(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    quick(tmp_path, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_matter_and_repeat(tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> torch.Tensor:
        quick(tmp_path / name, seed=seed, epochs=1)
        with safe_open(tmp_path / name / "last.safetensors", framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor("/model/conv1.weight")
            return tensor

    first = weights("a", 1)
    assert torch.equal(first, weights("b", 1))
    assert not torch.equal(first, weights("c", 2))


@pytest.mark.parametrize("method", ["l2", "random", "taylor", "bn-scale"])
def test_one_shot_criteria(tmp_path: Path, method: str) -> None:
    result = quick(tmp_path, method=method, flops=0.6, oneshot={"prune_at": 0.4})
    assert result.flops_compact / result.flops_dense == pytest.approx(0.6, abs=0.05)
    assert result.masked_top1 == result.compact_top1


@pytest.mark.parametrize(
    "values",
    [
        {"precision": "bf16", "channels_last": True},
        {"optimizer": "adamw", "lr": 1e-3, "schedule": "step", "mixup": 0.2, "label_smoothing": 0.1},
        {"p": 0.4, "ato": {"projection": "half-space", "every": 3}, "channels_last": False},
    ],
    ids=["bf16", "adamw-mixup", "half-space"],
)
def test_options(tmp_path: Path, values: dict[str, Any]) -> None:
    result = quick(tmp_path, **values)
    assert result.masked_top1 == result.compact_top1
    assert result.flops_compact / result.flops_dense == pytest.approx(result.flops_target, abs=0.01)


def test_imagenet_recipe_on_a_handful_of_images(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 4, (80, 72))
    changes = {
        "data": f"folder:{data}",
        "image_size": 64,
        "epochs": 2,
        "batch_size": 4,
        "workers": 1,
        "latency_batch": 1,
    }
    result = run(load_config("ato-resnet50-imagenet", {**changes, "out": str(tmp_path / "run")}))
    assert result.p_target == pytest.approx(0.193)
    assert result.flops_compact / result.flops_dense == pytest.approx(0.288, abs=0.02)
    kept = atofx.Mask.load(tmp_path / "run" / "mask.json").kept
    assert kept


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "atto"}, r"no method 'atto' \(did you mean 'ato'\?\)"),
        (
            {"model": "tests.train.nets:three_classes"},
            "scores 3 classes, digits has 10; let the factory take num_classes",
        ),
        (
            {"model": "tests.train.nets:three_channels"},
            r"does not run on the images of digits, \(1, 1, 8, 8\).*let its factory take in_channels",
        ),
        ({"ato": {"groups": ["nothing*"]}}, "no prunable group matches 'nothing"),
    ],
)
def test_what_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quick(tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


def test_unreachable_target(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot keep only 0\.0010 of the FLOPs"):
        quick(tmp_path / "run", flops=0.001)


def test_broken_checkpoint_is_reported(tmp_path: Path) -> None:
    quick(tmp_path, epochs=1)
    (tmp_path / "last.safetensors").write_bytes(b"123")
    with pytest.raises(FileError, match="cannot read the checkpoint"):
        quick(tmp_path, epochs=1, resume=True)


def test_out_and_resume_alone_continue_a_run_as_it_was(tmp_path: Path) -> None:
    quick(tmp_path, epochs=1)
    config = load_config(None, {"resume": True, "out": str(tmp_path)})
    assert (config.model, config.epochs) == (QUICK["model"], 1)
    run(config)


def test_threads_are_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    quick(tmp_path, epochs=1, threads=before + 1)
    assert torch.get_num_threads() == before


def test_a_finished_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    first = quick(tmp_path, epochs=1, baseline=True)
    again = quick(tmp_path, epochs=1, baseline=True, resume=True)
    assert (again.dense_top1, again.compact_top1) == (first.dense_top1, first.compact_top1)
