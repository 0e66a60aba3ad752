"""Two CPU processes (gloo) decide the same masks on every rank, and train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import atofx
from atofx.train import run
from atofx.train.config import TrainConfig

ROOT = Path(__file__).parents[2]

# What every rank ends with, in a file of its own.
WORKER = """
import json, sys
import torch
torch.set_num_threads(1)
from atofx.train import engine, run
from atofx.train.config import TrainConfig

class Watched(engine.Engine):
    def fit(self):
        super().fit()
        weights = sum(float(t.double().abs().sum()) for t in self._model.state_dict().values())
        found = {"mask": self._method.mask().to_json(), "weights": weights}
        open(sys.argv[2] + f"/rank{self._processes.share.rank}.json", "w").write(json.dumps(found))

from atofx.train import runner, two_phases
runner.Engine = two_phases.Engine = Watched
run(TrainConfig.from_yaml(sys.argv[1]))
"""


def config(out: Path, method: str) -> TrainConfig:
    values = {"model": "tests.train.nets:Deterministic", "epochs": 4, "latency_batch": 1, "lr": 0.05, "mixup": 0.0}
    search = {"epochs": 2, "budget": False, "lr": 0.05}
    own = {"ato": {"every": 2}, "scratch": search, "tas": search}
    return TrainConfig.parse({**values, **own, "method": method, "out": str(out)})


@pytest.mark.parametrize("method", ["ato", "scratch", "tas"])
def test_two_processes(tmp_path: Path, method: str) -> None:
    two = config(tmp_path / "two", method)
    (tmp_path / "run.yaml").write_text(two.to_yaml(), encoding="utf-8")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    # `accelerate launch --cpu` starts several processes through MPI only; accelerate understands torchrun as well.
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [sys.executable, "-m", *launch, str(tmp_path / "worker.py"), str(tmp_path / "run.yaml"), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
    )
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    written = atofx.Mask.load(tmp_path / "two" / "mask.json")
    assert written == atofx.Mask.from_json(ranks[0]["mask"])
    result = json.loads((tmp_path / "two" / "result.json").read_text(encoding="utf-8"))
    one = run(config(tmp_path / "one", method))
    assert result["flops_compact"] == pytest.approx(one.flops_compact, rel=0.02)
    assert result["compact_top1"] == pytest.approx(one.compact_top1, abs=15)
    if method != "ato":  # the masks may differ, too
        return
    # Same initial weights, data and order; only batch statistics differ.
    weights = [load_file(tmp_path / name / "last.safetensors")["/model/fc.weight"] for name in ("one", "two")]
    assert torch.nn.functional.cosine_similarity(weights[0].flatten(), weights[1].flatten(), dim=0) > 0.5
