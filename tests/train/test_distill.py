"""Learning from a teacher: the loss by hand, and runs."""

import math

import pytest
import torch
from torch import nn

from atofx.errors import ConfigError
from atofx.train import checkpoint, run
from atofx.train.config import TrainConfig
from atofx.train.data import load_data
from atofx.train.distill import Teacher, soft_target_loss
from atofx.train.plan import Share, in_order
from tests.train.nets import Small

QUICK = {"model": "tests.train.nets:Small", "epochs": 2, "lr": 0.3, "latency_batch": 2}


def quick(out, **values):
    return run(TrainConfig.parse({**QUICK, "out": str(out), **values}))


def weights(folder):
    return checkpoint.weights(folder / "last.safetensors")


def test_soft_targets_by_hand():
    """At T = 2 the student says 1/4 and 3/4, the teacher 1/2 and 1/2; twice the same row, so the mean is that row's."""
    student, teacher = torch.tensor([[0.0, 2 * math.log(3)]] * 2), torch.zeros(2, 2)
    wanted = 4 * (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    assert float(soft_target_loss(student, teacher, 2.0)) == pytest.approx(wanted, rel=1e-6)
    assert float(soft_target_loss(teacher, teacher, 2.0)) == 0


def test_the_teacher_has_its_share_and_learns_nothing():
    network = nn.Linear(3, 2).eval()
    images, logits = torch.randn(4, 3), torch.randn(4, 2, requires_grad=True)
    alone = soft_target_loss(logits, network(images), 4.0)
    loss = Teacher(network, 0.9, 4.0).loss(images, logits, torch.tensor(2.0))
    assert float(loss.detach()) == pytest.approx(0.1 * 2.0 + 0.9 * float(alone.detach()), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert network.weight.grad is None
    assert float(Teacher(network, 0.0, 4.0).loss(images, logits, torch.tensor(2.0)).detach()) == 2.0


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A trained teacher."""
    folder = tmp_path_factory.mktemp("teacher") / "dense"
    quick(folder, method="none", epochs=4)
    return folder


def test_a_student_comes_nearer_to_its_teacher(dense, tmp_path):
    options = {"method": "l2", "epochs": 4, "seed": 1}
    quick(tmp_path / "alone", **options)
    quick(tmp_path / "taught", **options, distill=str(dense), distillation={"alpha": 1.0})
    data = load_data(TrainConfig(), torch.device("cpu")).test
    images = torch.cat([batch for batch, _ in data.batches(in_order(len(data), 64, Share()))])
    networks = {}
    for folder in (dense, tmp_path / "alone", tmp_path / "taught"):
        networks[folder.name] = Small(10, 1).eval()
        networks[folder.name].load_state_dict(weights(folder))
    with torch.no_grad():
        teacher = networks["dense"](images)
        far = {name: float(soft_target_loss(net(images), teacher, 4.0)) for name, net in networks.items()}
    assert far["taught"] < 0.8 * far["alone"]


def test_the_baseline_teaches_and_a_run_resumes(tmp_path):
    options = {"baseline": True, "distill": "baseline", "checkpoint_every": 5}
    result = quick(tmp_path / "whole", **options)
    assert result.dense_top1 is not None
    again = quick(tmp_path / "other", baseline=False, distill=str(tmp_path / "whole" / "baseline"), checkpoint_every=5)
    assert again.compact_top1 == result.compact_top1
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "other")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_no_teacher_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"distill: '.*nothing' holds no trained network"):
        quick(tmp_path / "out", distill=str(tmp_path / "nothing"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="distill baseline needs the dense network: set baseline: true"):
        TrainConfig.parse({"distill": "baseline"})


def test_a_teacher_of_other_images_is_refused(dense, tmp_path):
    state = checkpoint.load(dense / "last.safetensors", torch.device("cpu"))
    state["model"] = {name: tensor[:3] if tensor.dim() else tensor for name, tensor in state["model"].items()}
    (tmp_path / "teacher").mkdir()
    checkpoint.save(state, tmp_path / "teacher" / "last.safetensors")
    (tmp_path / "teacher" / "config.yaml").write_text((dense / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"distill: the tests.train.nets:Small in .* is not one for digits"):
        quick(tmp_path / "out", distill=str(tmp_path / "teacher"))
    assert not (tmp_path / "out").exists()
