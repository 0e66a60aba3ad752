"""A run that is killed and resumed ends with the weights of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from atofx.train import run
from atofx.train.config import TrainConfig

ROOT = Path(__file__).parents[2]


def config(out: Path) -> TrainConfig:
    values = {"model": "tests.train.nets:Small", "epochs": 6, "checkpoint_every": 7, "latency_batch": 1, "mixup": 0.2}
    return TrainConfig.parse({**values, "ato": {"every": 2}, "out": str(out)})


def test_kill_and_resume(tmp_path: Path) -> None:
    run(config(tmp_path / "whole"))
    killed = config(tmp_path / "killed")
    file = tmp_path / "run.yaml"
    file.write_text(killed.to_yaml(), encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "-m", "atofx", "train", "--config", str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and '"step": 60,' in metrics.read_text(encoding="utf-8")):
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "result.json").exists()
    run(killed.updated(resume=True))
    whole, resumed = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    masks = [(tmp_path / name / "mask.json").read_text(encoding="utf-8") for name in ("whole", "killed")]
    assert masks[0] == masks[1]
