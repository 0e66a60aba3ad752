"""One pair in settings: results, what is refused, and in which words."""

import importlib.util

import pytest
import torch
from torch import nn

import atofx
from atofx.bench import Rounds, Setting, compare, latencies_ms
from atofx.bench.backend import BACKENDS, results
from atofx.bench.machine import pinned_threads, this_machine
from atofx.bench.report import Pair, measure
from atofx.bench.size import file_bytes
from atofx.errors import ConfigError
from atofx.passes.clean import clean

ONCE = Rounds(warm_up=0, least=1, most=1, seconds=0.0)
TWICE = Rounds(warm_up=1, least=2, most=2, seconds=0.0)


def net(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 16, 5)
    )


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(3, 6)

    def forward(self, a, b):
        return {"sum": self.left(a) + self.right(b), "a": a.relu()}


class IgnoresOne(nn.Module):
    def forward(self, a, b, c):
        return a - c


def test_a_comparison_knows_its_batch_and_its_results():
    found = compare(net(8), net(4), torch.randn(2, 3, 6, 6), Setting(batch=3), TWICE)
    assert found.setting == Setting(batch=3)
    assert found.dense.batch == 3
    assert len(found.dense.seconds) == len(found.compact.seconds) == 2
    assert found.dense.deviation == found.compact.deviation == 0.0
    assert found.dense.moved > found.compact.moved > 0
    assert found.dense.peak > found.compact.peak > 0
    assert compare(net(), net(), torch.randn(2, 3, 6, 6), Setting(), ONCE).setting.batch == 2


class OfList(nn.Module):
    """Takes images as a list, as detectors do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return [self.conv(image[None]).mean() for image in images]


def test_a_list_holds_one_sample_in_each_entry():
    images = ([torch.randn(3, 8, 8), torch.randn(3, 9, 8)],)
    found = compare(OfList(), OfList(), images, Setting(), Rounds(least=1, most=1, seconds=0.0))
    assert found.dense.batch == found.compact.batch == 2


def test_copies_are_timed_one_after_the_other():
    dense, compact = net(8), net(4)
    again = compare(dense, compact, torch.randn(2, 3, 6, 6), Setting(), TWICE, copies=3)
    assert len(again.dense.seconds) == len(again.compact.seconds) == 6


def test_bfloat16_and_channels_last_give_the_same_results_up_to_rounding():
    setting = Setting(dtype="bfloat16", memory_format="channels_last")
    found = compare(net(8), net(4), torch.randn(2, 3, 6, 6), setting, ONCE)
    assert 0.0 < found.dense.deviation < 0.05


def test_models_are_left_as_they_were():
    dense, compact = net(8).train(), net(4).train()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    compare(dense, compact, torch.randn(2, 3, 6, 6), Setting(dtype="bfloat16"), ONCE)
    assert dense.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


def test_inputs_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"do not run in the setting eager, batch 2, float32, contiguous: "):
        compare(net(), net(), torch.randn(2, 4, 6, 6), Setting(batch=2), ONCE)


@pytest.mark.parametrize(
    "inputs", [(torch.randn(2, 4), torch.randn(2, 3)), {"b": torch.randn(2, 3), "a": torch.ones(2, 4)}]
)
def test_onnx_runtime_gives_the_same_results(inputs):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    found = compare(TwoInputs(), TwoInputs(), inputs, Setting("onnxruntime"), ONCE)
    assert max(found.dense.deviation, found.compact.deviation) < 1e-5


def test_onnx_runtime_with_an_input_that_nobody_reads():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    inputs = tuple(torch.randn(2, 3) for _ in range(3))
    assert compare(IgnoresOne(), IgnoresOne(), inputs, Setting("onnxruntime"), ONCE).dense.deviation < 1e-5


def test_onnx_runtime_runs_compact_models():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    x = torch.randn(2, 3, 6, 6)
    program = atofx.trace(net().eval(), x)
    compact = clean(program.compact(program.random_mask(keep=0.5)))
    (run,) = BACKENDS["onnxruntime"].prepare([compact], x)
    torch.testing.assert_close(results(run())[0], compact(x).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"takes no torch\.bfloat16 inputs; choose another dtype"):
        compare(compact, compact, x, Setting("onnxruntime", dtype="bfloat16"), ONCE)


class ByValue(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else 2 * x


def test_a_model_that_onnx_cannot_take(capfd):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    with pytest.raises(ConfigError, match=r"torch\.onnx cannot export the model: Could not guard on data-dependent"):
        compare(ByValue(), ByValue(), torch.ones(2, 3), Setting("onnxruntime"), ONCE)
    assert "def forward" not in "".join(capfd.readouterr())


def test_without_onnx_runtime_the_error_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    with pytest.raises(
        ConfigError, match=r"needs onnx and onnxscript and onnxruntime: pip install \"atofx\[export\]\""
    ):
        compare(net(), net(), torch.randn(1, 3, 6, 6), Setting("onnxruntime"), ONCE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu():
    x = torch.randn(1, 3, 6, 6)
    with pytest.raises(ConfigError, match="PyTorch sees no GPU here; choose the device cpu"):
        compare(net(), net(), x, Setting(device="cuda"), ONCE)
    with pytest.raises(ConfigError, match="cudagraphs needs an NVIDIA GPU"):
        measure(Pair(net(), net(), x, (2, 1), (2, 1)), [Setting(), Setting("cudagraphs")], ONCE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["eager", "cudagraphs"])
def test_on_a_gpu(backend):
    found = compare(net(8), net(4), torch.randn(2, 3, 6, 6), Setting(backend, device="cuda"), TWICE)
    assert max(found.dense.deviation, found.compact.deviation) < 1e-2
    assert found.dense.peak > 0
    with pytest.raises(ConfigError, match="cudagraphs runs on a GPU"):
        compare(net(), net(), torch.randn(2, 3, 6, 6), Setting("cudagraphs"), ONCE)


@pytest.mark.slow
def test_compiled_models_give_the_same_results():
    found = compare(net(8), net(4), torch.randn(2, 3, 6, 6), Setting("compile"), ONCE)
    assert max(found.dense.deviation, found.compact.deviation) < 1e-5


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with pinned_threads(before + 1) as count:
        assert count == before + 1 == torch.get_num_threads() == this_machine("cpu").threads
    with pinned_threads(None) as count:
        assert count == before
    assert torch.get_num_threads() == before
    with pytest.raises(ConfigError, match="must be at least 1, got 0"), pinned_threads(0):
        pass


def test_a_tied_tensor_is_stored_once(tmp_path):
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    apart = file_bytes(model)
    model[1].weight = model[0].weight
    assert apart - 100 < 2 * 64 * 64 * 4 + 200
    assert 64 * 64 * 4 < file_bytes(model) < apart - 64 * 64 * 3


def test_latencies_of_several_models():
    one, two = nn.Linear(4, 4).train(), nn.Linear(4, 4)
    found = latencies_ms([one, two], torch.ones(1, 4), TWICE)
    assert len(found) == 2
    assert min(map(min, found)) > 0
    assert len(found[0]) == len(found[1])
    assert not one.training
