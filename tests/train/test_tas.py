"""TAS from a configuration to a result: a search, then a narrower and shallower network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import atofx
from atofx import zoo
from atofx.errors import ConfigError, TargetError
from atofx.report.run_data import run_data
from atofx.train import run
from atofx.train.config import TrainConfig
from atofx.train.engine import Engine
from atofx.train.recipes import load_config, recipe_names
from atofx.train.result import RunResult
from atofx.train.search import SearchPhase
from tests.train.interrupted import assert_same_tensors, stop_at
from tests.train.metrics import records

QUICK = {"model": "tests.train.test_tas:small", "epochs": 1, "lr": 0.1, "latency_batch": 2, "method": "tas"}


def small(num_classes: int = 10, in_channels: int = 1) -> zoo.CifarResNet:
    """Three stages of two blocks."""
    return zoo.CifarResNet(14, num_classes, in_channels)


def quick(out: Path, tas: dict[str, Any] | None = None, **values: Any) -> RunResult:
    options = {"epochs": 1, "lr": 0.05, **(tas or {})}
    return run(TrainConfig.parse({**QUICK, "out": str(out), "tas": options, **values}))


@pytest.mark.parametrize("search", ["width", "shape"])
def test_a_run_ends_on_target_and_compact_equals_masked(tmp_path: Path, search: str) -> None:
    result = quick(tmp_path, {"search": search}, flops=0.5)
    assert result.flops_compact / result.flops_dense == pytest.approx(0.5, rel=0.01)
    assert result.masked_top1 == result.compact_top1
    assert result.agreement == 100
    assert result.verification is not None
    assert result.verification.ok
    assert sum(layer.compact for layer in result.layers) == result.flops_compact
    assert result.flops_dense == atofx.trace(small(), torch.zeros(1, 1, 8, 8)).flops()
    if search == "width":
        assert result.without == ()
    phases = [("expected_flops" in record, "masked_top1" in record) for record in records(tmp_path, "epoch")]
    assert phases == [(True, False), (False, True)]


def test_depth_alone_takes_whole_blocks(tmp_path: Path) -> None:
    result = quick(tmp_path, {"search": "depth", "tolerance": 0.2}, flops=0.75)
    assert result.without
    program = atofx.trace(small(), torch.zeros(1, 1, 8, 8))
    assert result.flops_compact == program.flops(blocks=dict.fromkeys(result.without, False))
    assert 0.55 <= result.flops_compact / result.flops_dense <= 0.75
    assert result.compact_top1 == result.masked_top1
    assert result.flops_masked == result.flops_compact
    assert sum(layer.compact for layer in result.layers) == result.flops_compact
    assert all(layer.compact == 0 for layer in result.layers if layer.name.startswith(result.without))
    module = atofx.load(tmp_path / "compact.safetensors", small)
    assert not [key for key in module.state_dict() if key.startswith(tuple(f"{name}." for name in result.without))]
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["without"] == list(result.without)
    assert run_data(tmp_path)["masks"]["epochs"] == [1, 2]


@pytest.mark.parametrize(("place", "method"), [(SearchPhase, "_learn"), (Engine, "_train_step")])
def test_resume_equals_uninterrupted(tmp_path: Path, place: type[Any], method: str) -> None:
    options: dict[str, Any] = {"checkpoint_every": 5, "flops": 0.4}
    tas = {"epochs": 2, "check_every": 6}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    quick(whole, tas, **options)
    stop_at(18, place, method, lambda: quick(killed, tas, **options))
    assert not (killed / "result.json").exists()
    quick(killed, tas, resume=True, **options)
    for file in ("search.safetensors", "last.safetensors"):
        assert_same_tensors(whole / file, killed / file)
    assert (whole / "mask.json").read_text(encoding="utf-8") == (killed / "mask.json").read_text(encoding="utf-8")


def test_the_teacher_is_the_dense_network_of_the_run(tmp_path: Path) -> None:
    result = quick(tmp_path, baseline=True, distill="baseline")
    assert result.dense_top1 is not None
    assert (tmp_path / "baseline" / "last.safetensors").exists()
    assert result.compact_top1 == result.masked_top1


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"tas": {"groups": ["nothing*"]}}, ConfigError, "no prunable group matches 'nothing"),
        ({"tas": {"search": "depth"}, "model": "tests.train.nets:Small"}, TargetError, "no stage of residual blocks"),
        ({"tas": {"t_first": 0.01}}, ConfigError, "a temperature falls from start"),
        ({"flops": 0.01, "tas": {"search": "depth"}}, TargetError, "the shallowest network still has"),
    ],
)
def test_what_is_refused(tmp_path: Path, values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(tmp_path / "run", **values)
    assert not (tmp_path / "run" / "mask.json").exists()


def test_temperatures_by_name() -> None:
    def temperatures(**tas: Any) -> tuple[str, float, float]:
        found = TrainConfig.parse({"tas": tas}).tas.temperatures
        return found.curve, found.start, found.end

    assert temperatures() == ("cosine", 5.0, 0.1)
    assert temperatures(temperature="linear") == ("linear", 10.0, 0.1)
    assert temperatures(temperature="linear", t_first=3.0, t_last=0.5) == ("linear", 3.0, 0.5)


def test_recipes_are_the_published_settings() -> None:
    recipes = [load_config(name) for name in recipe_names() if name.startswith("tas-")]
    assert recipes
    for config in recipes:
        assert config.method == "tas"
        assert (config.tas.lr, config.tas.weight_decay, config.tas.lmd) == (1e-3, 1e-3, 2.0)
        assert (config.distill, config.baseline) == ("baseline", True)
        assert (config.distillation.alpha, config.distillation.temperature) == (0.9, 4.0)
        assert config.tas.temperatures.start == 5.0
