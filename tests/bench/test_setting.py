"""Combinations, and models and inputs brought into them."""

import pytest
import torch
from torch import nn

from atofx.bench import Setting, all_settings
from atofx.bench.setting import place_inputs, place_model
from atofx.errors import ConfigError


def test_every_combination_once():
    settings = all_settings(("eager", "onnxruntime"), (1, 8), ("contiguous", "channels_last"))
    assert len(settings) == 4 + 2  # ONNX Runtime chooses its own memory formats
    assert settings[:2] == (Setting("eager", 1), Setting("eager", 1, "channels_last"))
    assert {s.memory_format for s in settings if s.backend == "onnxruntime"} == {"contiguous"}


def test_a_model_is_copied_into_its_setting():
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)).train()
    placed = place_model(model, Setting(memory_format="channels_last", dtype="bfloat16"))
    weight = placed.get_parameter("0.weight")
    assert weight.dtype == torch.bfloat16
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not placed.training
    assert model.training
    assert model[0].weight.dtype == torch.float32
    assert model[0].weight.is_contiguous()


def test_inputs_are_repeated_and_cast():
    images, words = torch.randn(2, 3, 4, 5), torch.tensor([[1, 2], [3, 4]])
    placed = place_inputs({"x": images, "ids": words, "flag": True}, Setting(batch=3, dtype="float16"))
    assert torch.equal(placed["x"], images[[0, 1, 0]].half())
    assert torch.equal(placed["ids"], words[[0, 1, 0]])
    assert placed["flag"] is True
    last = place_inputs((images,), Setting(memory_format="channels_last"))
    assert last[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last[0], images)


@pytest.mark.parametrize(
    "inputs",
    [(torch.ones(2, 3), torch.ones(3, 3)), ([torch.ones(3, 8, 8)],), (torch.ones(()),), (3,)],
    ids=["sizes", "list", "scalar", "none"],
)
def test_a_batch_that_cannot_be_told(inputs):
    assert place_inputs(inputs, Setting()) is not None
    with pytest.raises(ConfigError, match=r"cannot make a batch of 4 .* leave the batch size out"):
        place_inputs(inputs, Setting(batch=4))
