"""A run that is killed and resumed ends with the weights of one that was not."""

from pathlib import Path

from atofx.train import run
from atofx.train.config import TrainConfig
from tests.train.interrupted import assert_same_tensors, kill_at


def config(out: Path) -> TrainConfig:
    values = {"model": "tests.train.nets:Small", "epochs": 6, "checkpoint_every": 7, "latency_batch": 1, "mixup": 0.2}
    return TrainConfig.parse({**values, "ato": {"every": 2}, "out": str(out)})


def test_kill_and_resume(tmp_path: Path) -> None:
    run(config(tmp_path / "whole"))
    killed = config(tmp_path / "killed")
    kill_at(60, killed, within=60)
    run(killed.updated(resume=True))
    assert_same_tensors(tmp_path / "whole" / "last.safetensors", tmp_path / "killed" / "last.safetensors")
    masks = [(tmp_path / name / "mask.json").read_text(encoding="utf-8") for name in ("whole", "killed")]
    assert masks[0] == masks[1]
