"""Detectors: regions are found, pruned, and boxes and scores are those of the zeroed model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

import atofx
from atofx.passes.merge import TracedRegions
from tests.detectors import DETECTORS, build, images, targets
from tests.invariants import (
    Subject,
    effect,
    explained,
    full_mask_is_dense,
    prunable_axis,
    run,
    trace,
    twice,
    well_formed,
)


def tiny() -> nn.Module:
    """Faster R-CNN on a backbone of three layers, with frozen batch norm."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1), FrozenBatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2)
    )
    backbone.out_channels = 12  # type: ignore[assignment]
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((16, 32),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(12 * 9, 16), nn.ReLU(), nn.Linear(16, 10)),
        box_predictor=FastRCNNPredictor(10, 4),
        min_size=64,
        max_size=96,
        box_score_thresh=0.0,
        box_detections_per_img=8,
    ).eval()


def finite_boxes(subject: Subject, mask: atofx.Mask) -> None:
    """There is something to compare, and the mask changes it."""
    boxes = [value for value in run(subject.program.zeroed(mask), subject.inputs, "eval").values if value.dim() == 2]
    assert boxes
    assert all(len(b) and bool(torch.isfinite(b).all()) for b in boxes)
    assert effect(subject, mask) > 1e-3


def in_train_mode(model: nn.Module) -> dict[str, Any]:
    losses: dict[str, Any] = model.train()(*images(), targets())
    torch.stack(list(losses.values())).sum().backward()
    return losses


def test_a_small_detector_keeps_every_promise() -> None:
    subject = trace(tiny(), images(), ("eval",))
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    regions = ("backbone", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor")
    assert program.traced.plan.regions == regions
    assert [g.size for g in program.prunable] == [8, 12, 16]
    assert prunable_axis(program, "backbone.1.running_mean:0") == (8, 8)
    mask = program.random_mask(keep=0.5, seed=0)
    well_formed(subject)
    explained(subject)
    full_mask_is_dense(subject)
    finite_boxes(subject, mask)
    report = program.verify(mask)
    assert report.ok, report
    twice(subject, mask, 0)


def test_a_small_detector_trains_and_is_saved(tmp_path: Any) -> None:
    program = atofx.trace(tiny(), images())
    mask = program.random_mask()
    small = program.compact(mask)
    assert isinstance(small, FasterRCNN)
    atofx.save(program, mask, tmp_path / "small.safetensors")
    loaded = atofx.load(tmp_path / "small.safetensors", tiny)
    for expected, actual in zip(small(*images()), loaded(*images()), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert set(in_train_mode(small)) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert all(p.grad is not None for p in small.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_torchvision_detectors(name: str) -> None:
    subject = trace(build(name), images(), ("eval",))
    program = subject.program
    explained(subject)
    full_mask_is_dense(subject)
    mask = program.random_mask(keep=0.5, seed=0)
    finite_boxes(subject, mask)
    report = program.verify(mask)
    assert report.ok, report
    assert program.params(mask) < 0.6 * program.params()
    assert all(bool(torch.isfinite(loss)) for loss in in_train_mode(program.compact(mask)).values())
