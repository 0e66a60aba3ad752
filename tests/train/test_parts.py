"""Learning rates, loss, checkpoints, records: the engine's parts on their own."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

from atofx.errors import ConfigError, FileError
from atofx.train import checkpoint, rng
from atofx.train.config import TrainConfig
from atofx.train.loss import mixed
from atofx.train.monitor import Monitor
from atofx.train.rates import learning_rate
from atofx.train.run_folder import RunFolder, choose, prepare


def test_warm_up_then_cosine() -> None:
    config = TrainConfig(lr=1.0, epochs=10, warmup_epochs=2)
    rates = [learning_rate(config, step, 10) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert sorted(rates[20:], reverse=True) == rates[20:]


def test_steps_and_constant() -> None:
    config = TrainConfig(lr=1.0, epochs=10, warmup_epochs=0, schedule="step", milestones=(0.5, 0.8), gamma=0.1)
    assert [learning_rate(config, step, 1) for step in (0, 4, 5, 7, 8, 9)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    constant = config.updated(schedule="constant")
    assert learning_rate(constant, 9, 1) == 1.0


def test_mixup_blends_images_and_labels() -> None:
    images, labels = torch.randn(8, 1, 4, 4), torch.arange(8)
    batch = mixed(images, labels, alpha=0.2, seed=1, step=5)
    order = batch.others
    assert torch.allclose(batch.inputs, batch.share * images + (1 - batch.share) * images[order])
    assert 0 < batch.share < 1
    again = mixed(images, labels, alpha=0.2, seed=1, step=5)
    assert torch.equal(again.inputs, batch.inputs)
    logits = torch.randn(8, 8)
    blended = batch.share * F.one_hot(labels, 8) + (1 - batch.share) * F.one_hot(order, 8)
    expected = F.cross_entropy(logits, blended, label_smoothing=0.1)
    assert batch.loss(logits, 0.1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_mixup_the_batch_is_as_it_was() -> None:
    images, labels = torch.randn(2, 1, 4, 4), torch.tensor([0, 1])
    assert mixed(images, labels, 0.0, 0, 0).inputs is images


def test_checkpoint_there_and_back(tmp_path: Path) -> None:
    shared = torch.randn(3)
    state = {
        "a": {0: {"x": torch.randn(2, 2, dtype=torch.float64), "y": None}, "b": (1, 2.5, True, "t")},
        "tied": [shared, shared],
        "rng": rng.capture(),
        "scalar": torch.tensor(3),
    }
    checkpoint.save(state, tmp_path / "c.safetensors")
    loaded = checkpoint.load(tmp_path / "c.safetensors", torch.device("cpu"))
    assert torch.equal(loaded["a"][0]["x"], state["a"][0]["x"])  # type: ignore[index]
    assert loaded["a"]["b"] == (1, 2.5, True, "t")
    assert loaded["a"][0]["y"] is None
    assert torch.equal(loaded["tied"][1], shared)
    assert loaded["scalar"].shape == ()
    expected = torch.rand(3)
    rng.restore(loaded["rng"])
    assert torch.equal(torch.rand(3), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_checkpoint_refuses_objects(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold a set"):
        checkpoint.save({"a": {1, 2}}, tmp_path / "c.safetensors")


def test_broken_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FileError, match="cannot read the checkpoint"):
        checkpoint.load(path, torch.device("cpu"))


def test_a_used_folder_is_not_overwritten(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), TrainConfig(out=str(tmp_path))
    prepare(folder, config)
    with pytest.raises(ConfigError, match="holds a run already; continue it with --resume"):
        prepare(folder, config)
    prepare(folder, config.updated(resume=True, workers=1))
    with pytest.raises(ConfigError, match=r"other options: epochs was 30, now 3; .*give --resume and --out alone"):
        prepare(folder, config.updated(resume=True, epochs=3))


def test_fresh_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose(TrainConfig()) == Path("runs/ato-resnet20-digits-1")
    choose(TrainConfig()).mkdir(parents=True)
    assert choose(TrainConfig()) == Path("runs/ato-resnet20-digits-2")
    assert choose(TrainConfig(data="folder:/a/b")).parent == Path("runs")


def test_records_of_a_killed_run_are_discarded(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lines = [json.dumps({"kind": "step", "step": step}) for step in (20, 40, 60)]
    folder.metrics.write_text("\n".join([*lines, '{"kind": "st']), encoding="utf-8")
    with Monitor(folder, Console(quiet=True), "ato", 2, 50, start=40) as monitor:
        monitor.advance(41, {"loss": 1.0})
    steps = [json.loads(line)["step"] for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    assert steps == [20, 40, 41]
