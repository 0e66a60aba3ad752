"""Pruning from Scratch from a configuration to a result: two phases, one run folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import atofx
from atofx import zoo
from atofx.errors import ConfigError, TargetError
from atofx.report.run_data import run_data
from atofx.train import run
from atofx.train.config import TrainConfig
from atofx.train.engine import Engine
from atofx.train.images import PartOf
from atofx.train.recipes import load_config, recipe_names
from atofx.train.result import RunResult
from atofx.train.search import SearchPhase
from tests.train.interrupted import assert_same_tensors, stop_at
from tests.train.metrics import records
from tests.train.nets import Small

QUICK = {"model": "tests.train.nets:Small", "epochs": 2, "lr": 0.3, "latency_batch": 2, "method": "scratch"}


def quick(out: Path, scratch: dict[str, Any] | None = None, **values: Any) -> RunResult:
    options = {"epochs": 2, "lr": 0.05, **(scratch or {})}
    return run(TrainConfig.parse({**QUICK, "out": str(out), "scratch": options, **values}))


def checkpoint_weights(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, framework="pt") as opened:
        keys = [key for key in opened.keys() if key.startswith("/model/")]  # noqa: SIM118
        return {key.removeprefix("/model/"): opened.get_tensor(key) for key in keys}


def test_digits_with_resnet20(tmp_path: Path) -> None:
    result = quick(tmp_path, model="resnet20", batch_size=128)
    assert result.flops_compact / result.flops_dense == pytest.approx(0.5, rel=0.01)
    assert result.flops_target == 0.5
    assert result.masked_top1 == result.compact_top1
    assert result.agreement == 100
    assert result.verification is not None
    assert result.verification.ok


def test_files_and_records_of_both_phases(tmp_path: Path) -> None:
    result = quick(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"search.safetensors", "last.safetensors", "best.safetensors", "mask.json", "report.html"}
    epochs = records(tmp_path, "epoch")
    trained = int(2 * result.flops_dense / result.flops_compact)
    assert trained in (3, 4)
    assert [record["epoch"] for record in epochs] == list(range(1, 2 + trained + 1))  # 2 of the gates
    phases = [("validation_top1" in record, "masked_top1" in record) for record in epochs]
    assert phases == [(True, False)] * 2 + [(False, True)] * trained
    assert [record["step"] for record in epochs] == sorted(record["step"] for record in epochs)
    assert epochs[-1]["masked_top1"] == pytest.approx(result.masked_top1)
    masks = records(tmp_path, "mask")
    assert [record["epoch"] for record in masks] == [record["epoch"] for record in epochs]
    assert masks[1]["kept"] == masks[-1]["kept"] == atofx.Mask.load(tmp_path / "mask.json").kept
    assert len(run_data(tmp_path)["epochs"]) == len(epochs)


def test_epochs_without_a_budget_are_those_of_the_configuration(tmp_path: Path) -> None:
    quick(tmp_path, {"budget": False, "epochs": 1, "check_every": 5}, epochs=1)
    assert [record["epoch"] for record in records(tmp_path, "epoch")] == [1, 2]


def test_checkpoints_are_those_of_the_dense_network(tmp_path: Path) -> None:
    quick(tmp_path)
    compact = atofx.load(tmp_path / "compact.safetensors", Small).eval()
    big = Small().eval()
    big.load_state_dict(checkpoint_weights(tmp_path / "last.safetensors"))
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(compact(images), big(images), atol=1e-5)


def test_the_compact_network_has_new_weights(tmp_path: Path) -> None:
    quick(tmp_path, {"budget": False, "epochs": 1}, epochs=1, lr=1e-9, weight_decay=0.0, seed=3)
    torch.manual_seed(3)
    first = Small().conv1.weight.detach()
    kept = atofx.Mask.load(tmp_path / "mask.json")["conv1"]
    trained = checkpoint_weights(tmp_path / "last.safetensors")["conv1.weight"]
    assert not bool(trained[~kept].any())
    assert float((trained[kept] - first[kept]).abs().mean()) > 0.1


def test_widened(tmp_path: Path) -> None:
    result = quick(tmp_path, {"expand": {"conv1": 2, "conv2": 1.5}, "groups": ["conv1"]}, flops=0.8)
    program = atofx.trace(Small(), torch.randn(1, 1, 8, 8))
    assert result.flops_dense == program.flops()
    assert result.flops_compact / result.flops_dense == pytest.approx(0.8, rel=0.05)
    assert sum(layer.dense for layer in result.layers) == result.flops_dense
    assert sum(layer.compact for layer in result.layers) == result.flops_compact
    assert result.masked_top1 == result.compact_top1
    assert result.flops_masked == int(program.flops_by_counts(torch.tensor([[32, 36]])))
    mask = atofx.Mask.load(tmp_path / "mask.json")
    assert {name: vector.numel() for name, vector in mask.items()} == {"conv1": 32, "conv2": 36}
    assert mask.kept["conv2"] == 36  # no gates there
    wide = {"conv1": 2, "conv2": 1.5}
    module = atofx.load(tmp_path / "compact.safetensors", lambda: program.widen(wide))
    assert module.get_parameter("conv2.weight").shape == (36, mask.kept["conv1"], 3, 3)


@pytest.mark.parametrize(("place", "method"), [(SearchPhase, "_learn"), (Engine, "_train_step")])
def test_resume_equals_uninterrupted(tmp_path: Path, place: type[Any], method: str) -> None:
    options: dict[str, Any] = {"checkpoint_every": 7, "mixup": 0.2}
    scratch = {"check_every": 6, "lr": 0.2, "r": 0.6}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    quick(whole, scratch, **options)
    stop_at(31, place, method, lambda: quick(killed, scratch, **options))
    assert not (killed / "result.json").exists()
    quick(killed, scratch, resume=True, **options)
    for file in ("search.safetensors", "last.safetensors"):
        assert_same_tensors(whole / file, killed / file)
    assert (whole / "mask.json").read_text(encoding="utf-8") == (killed / "mask.json").read_text(encoding="utf-8")
    numbers = [[record["step"] for record in records(folder, "epoch")] for folder in (whole, killed)]
    assert numbers[0] == numbers[1]


def test_a_finished_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    first = quick(tmp_path, baseline=True)
    again = quick(tmp_path, baseline=True, resume=True)
    assert (again.dense_top1, again.compact_top1) == (first.dense_top1, first.compact_top1)
    with pytest.raises(ConfigError, match="scratch was"):
        quick(tmp_path, {"r": 0.3}, resume=True)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"scratch": {"groups": ["nothing*"]}}, ConfigError, "no prunable group matches 'nothing"),
        ({"scratch": {"expand": 0.5}}, ConfigError, r"factors of 1 and more, not 0\.5"),
        ({"scratch": {"validation": 0.9999}}, ConfigError, "cannot be shared by training and validation"),
        ({"flops": 0.001}, TargetError, r"cannot keep only 0\.0010 of the FLOPs"),
    ],
)
def test_what_is_refused(tmp_path: Path, values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(tmp_path / "run", **values)
    assert not (tmp_path / "run" / "mask.json").exists()


def test_options_by_the_command_line_names() -> None:
    config = load_config(None, {"method": "scratch", "scratch": {"expand": {"layer3": 1.25}, "budget": False}})
    assert TrainConfig.parse(config.model_dump()).scratch.expand == {"layer3": 1.25}
    assert config.scratch.budget is False
    with pytest.raises(ConfigError, match="scratch"):
        config.updated(scratch={"r": 0.0})


def test_recipes_name_groups_that_there_are() -> None:
    for name in recipe_names():
        config = load_config(name)
        if config.method == "scratch" and config.data.startswith("cifar"):
            program = atofx.trace(zoo.build(config.model), torch.randn(1, 3, 32, 32))
            sizes = program.widened_sizes(config.scratch.expand)
            assert sum(sizes.values()) >= sum(group.size for group in program.prunable)
            atofx.methods.PruningFromScratch(program, config.target["flops"], groups=config.scratch.groups)


def test_part_of_a_set(tmp_path: Path) -> None:
    import numpy as np

    from atofx.train.digits import digits
    from atofx.train.plan import Batch, Share, in_order

    data = digits(None, None, torch.device("cpu")).train
    part = PartOf(data, np.array([5, 900, 33]))
    ((images, labels),) = part.batches(in_order(3, 8, Share()))
    ((same, classes),) = data.batches([Batch(np.array([5, 900, 33]))])
    assert len(part) == 3
    assert torch.equal(images, same)
    assert torch.equal(labels, classes)
