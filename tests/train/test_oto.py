"""HSPG, DHSPG and HESSO in the engine: digits, targets, resuming, recipes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import atofx
from atofx.errors import ConfigError, TargetError
from atofx.train import run
from atofx.train.config import TrainConfig
from atofx.train.engine import Engine
from atofx.train.recipes import load_config

METHODS = ("hspg", "dhspg", "hesso")
QUICK = {"model": "tests.train.nets:Small", "epochs": 3, "lr": 0.3, "latency_batch": 2}


def config(out: Path, **values: Any) -> TrainConfig:
    return TrainConfig.parse({**QUICK, "out": str(out), **values})


def last_epoch(out: Path) -> dict[str, Any]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return next(record for record in reversed(records) if record["kind"] == "epoch")


@pytest.mark.parametrize("method", METHODS)
def test_digits(tmp_path: Path, method: str) -> None:
    result = run(TrainConfig(method=method, epochs=2, out=str(tmp_path / "run"), threads=1))
    assert result.flops_compact / result.flops_dense == pytest.approx(0.5, abs=0.005)
    assert result.masked_top1 == result.compact_top1 > 40
    assert result.agreement == 100
    epoch = last_epoch(tmp_path / "run")
    assert (epoch["frozen"], epoch["masked_top1"]) == (1.0, pytest.approx(result.masked_top1))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_like_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, optimizer: str
) -> None:
    options = {"method": method, "optimizer": optimizer, "lr": 0.01, "checkpoint_every": 5}
    run(config(tmp_path / "whole", **options))
    step = Engine._train_step

    def interrupted(engine: Engine, images: torch.Tensor, labels: torch.Tensor) -> None:
        if engine._step == 32:
            raise KeyboardInterrupt
        step(engine, images, labels)

    monkeypatch.setattr(Engine, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path / "cut", **options))
    monkeypatch.undo()
    run(config(tmp_path / "cut", **options, resume=True))
    whole, cut = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert [key for key in whole if not torch.equal(whole[key], cut[key])] == []
    assert atofx.Mask.load(tmp_path / "whole/mask.json") == atofx.Mask.load(tmp_path / "cut/mask.json")


@pytest.mark.parametrize("method", METHODS)
def test_target_group_sparsity(tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(config(tmp_path, method=method, **{method: {"sparsity": 0.5}}))
    kept = atofx.Mask.load(tmp_path / "mask.json").kept
    assert sum(kept.values()) == 20  # of 40 units
    assert (result.flops_target, result.p_target) == (1.0, 1.0)  # there is none
    assert "Target:" not in capsys.readouterr().out


def test_hspg_without_a_target(tmp_path: Path) -> None:
    options = {"target": "none", "lmd": 0.3, "t_half_space": 0.3, "kinds": {"conv1": {"cap": 0.25, "epsilon": 0.5}}}
    result = run(config(tmp_path, method="hspg", hspg=options))
    assert result.masked_top1 == result.compact_top1
    assert atofx.Mask.load(tmp_path / "mask.json").kept["conv1"] >= 12
    assert TrainConfig.from_yaml(tmp_path / "config.yaml").hspg.kinds["conv1"].cap == 0.25


@pytest.mark.parametrize("method", METHODS)
def test_groups_and_limits(tmp_path: Path, method: str) -> None:
    result = run(config(tmp_path, method=method, flops=0.72, round_to=4, **{method: {"groups": ["conv2"]}}))
    assert atofx.Mask.load(tmp_path / "mask.json").kept == {"conv1": 16, "conv2": 16}
    assert result.flops_compact < result.flops_dense


@pytest.mark.parametrize("method", METHODS)
def test_p_is_the_prunable_part(tmp_path: Path, method: str) -> None:
    result = run(config(tmp_path, method=method, p=0.6))
    assert result.flops_compact / result.flops_dense == pytest.approx(result.flops_target, rel=0.01)
    assert result.p_target == pytest.approx(0.6)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"t_decide=0.1 lies before t_half_space=0.25"):
        run(config(tmp_path / "a", method="hspg", hspg={"t_decide": 0.1}))
    with pytest.raises(TargetError, match="cannot keep only"):
        run(config(tmp_path / "b", method="hesso", flops=0.001))
    with pytest.raises(ConfigError, match=r"no method 'heso' \(did you mean 'hesso'"):
        run(config(tmp_path / "c", method="heso"))
    with pytest.raises(ConfigError, match=r"unknown key 'epsilom' in 'hspg' \(did you mean 'epsilon'"):
        config(tmp_path, hspg={"epsilom": 0.5})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["hspg-vgg16bn-cifar10", "dhspg-resnet18-cifar10", "hesso-resnet18-cifar10"])
def test_recipes_run_on_short_trainings(tmp_path: Path, name: str) -> None:
    overrides = {"model": "tests.train.nets:Small", "data": "digits", "epochs": 2, "out": str(tmp_path), "lr": 0.3}
    result = run(load_config(name, {**overrides, "precision": "fp32", "latency_batch": 2}))
    assert result.masked_top1 == result.compact_top1
