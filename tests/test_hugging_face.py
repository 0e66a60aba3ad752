"""Hugging Face models from their configurations, with random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import atofx
from tests import invariants

transformers = pytest.importorskip("transformers", reason="transformers is not installed (it is in the test extra)")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IMAGE = {**SMALL, "image_size": 32, "patch_size": 8}
FOUR = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
#: model, configuration, its arguments, image size (None: words).
MODELS: dict[str, tuple[str, str, dict[str, Any], int | None]] = {
    "bert": ("BertModel", "BertConfig", {**SMALL, "vocab_size": 50}, None),
    "bert for questions": ("BertForQuestionAnswering", "BertConfig", {**SMALL, "vocab_size": 50}, None),
    "vit": ("ViTForImageClassification", "ViTConfig", IMAGE, 32),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", FOUR, 32),
    "resnet": ("ResNetForImageClassification", "ResNetConfig", {"embedding_size": 8, **FOUR}, 32),
    "mobilevit": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {"image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 12, 16, 20, 24, 32, 64]},
        64,
    ),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig", {**FOUR, "decoder_hidden_size": 16}, 64),
    "clip vision": ("CLIPVisionModel", "CLIPVisionConfig", IMAGE, 32),
}


def build(name: str, attention: str | None) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model_class, config_class, values, size = MODELS[name]
    config = getattr(transformers, config_class)(**values)
    options = {} if attention is None else {"attn_implementation": attention}
    model = getattr(transformers, model_class)._from_config(config, **options).eval()
    invariants.randomise(model, 0)
    if size is None:
        words = torch.randint(50, (2, 7))
        return model, {"input_ids": words, "attention_mask": torch.ones_like(words)}
    return model, torch.randn(2, 3, size, size)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_by_default(name: str, attention: str | None) -> None:
    model, inputs = build(name, attention)
    check(model, inputs, atofx.trace(model, inputs))


QUICK = ("bert", "vit")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_exported(name: str) -> None:
    model, inputs = build(name, None)
    program = atofx.trace(model, inputs, frontend="export")
    check(model, inputs, program)
    symbolic = atofx.trace(model, inputs)
    assert sorted(g.size for g in program.prunable) == sorted(g.size for g in symbolic.prunable)


def check(model: nn.Module, inputs: Any, program: atofx.Program) -> None:
    """Exact, with the model's own kind of output, and for other batch sizes too."""
    report = program.verify(program.random_mask(0.5))
    assert report.ok, report
    assert report.params_counted < program.params()
    compact = program.compact(program.random_mask(0.5))
    for batch in (2, 3):
        later = {k: v[:1].repeat(batch, *[1] * (v.dim() - 1)) for k, v in named(inputs).items()}
        wanted, got = model(**later), program.module(**later)
        assert type(got) is type(wanted)
        assert got.keys() == wanted.keys()
        assert all(torch.equal(got[key], wanted[key]) for key in wanted)
        assert type(compact(**later)) is type(wanted)


def named(inputs: Any) -> dict[str, torch.Tensor]:
    return inputs if isinstance(inputs, dict) else {"pixel_values": inputs}
