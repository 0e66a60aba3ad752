"""Accuracy on the test images, and whether two models agree on every one of them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from atofx.errors import ConfigError, VerifyError
from atofx.ir.copies import deepcopy
from atofx.train.images import Images
from atofx.train.plan import Batch, in_order
from atofx.train.processes import Processes

_SHOWN = 5


def logits_of(output: object) -> Tensor:
    """The class scores in a model's output: the output itself, or the first of several."""
    first = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(first, Tensor) or first.dim() != 2:
        found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ConfigError(f"the model's output is not class scores (images, classes) but {found}")
    return first


@torch.no_grad()
def top1(
    model: nn.Module,
    images: Images,
    batch_size: int,
    processes: Processes,
    autocast: AbstractContextManager[object] | None = None,
) -> float:
    """Percentage of images whose class is predicted, over all processes; the model's mode is restored."""
    training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.long, device=processes.device)
    with autocast or nullcontext():
        for inputs, labels in images.batches(in_order(len(images), batch_size, processes.share)):
            correct += (logits_of(model(inputs)).argmax(1) == labels).sum()
    model.train(training)
    return 100.0 * int(processes.sum(correct)) / len(images)


@torch.no_grad()
def compare(
    masked: nn.Module, compact: nn.Module, images: Images, batch_size: int, processes: Processes
) -> tuple[float, float]:
    """Top-1 of both models in percent; every single prediction must be the same.

    Where float32 rounding decides between two classes, the image is looked at again in float64.

    Raises:
        VerifyError: a prediction differs.
    """
    masked.eval()
    compact.eval()
    correct = torch.zeros(2, dtype=torch.long, device=processes.device)
    doubtful: list[int] = []
    plan = list(in_order(len(images), batch_size, processes.share))
    for batch, (inputs, labels) in zip(plan, images.batches(plan), strict=True):
        pair = [logits_of(model(inputs)).argmax(1) for model in (masked, compact)]
        correct += torch.stack([(predicted == labels).sum() for predicted in pair])
        doubtful += batch.indices[(pair[0] != pair[1]).cpu().numpy()].tolist()
    wrong = _differing(masked, compact, images, doubtful)
    total = int(processes.sum(torch.tensor(len(wrong), device=processes.device)))
    if total:
        raise VerifyError(
            f"the masked and the compact model disagree on {total} of {len(images)} test images, such as "
            f"{wrong[:_SHOWN]}; they should compute the same function: please report this with the model"
        )
    first, second = (100.0 * int(count) / len(images) for count in processes.sum(correct))
    return first, second


def _differing(masked: nn.Module, compact: nn.Module, images: Images, indices: list[int]) -> list[int]:
    """Those of ``indices`` on which the models differ in float64, too."""
    if not indices:
        return []
    pair = [deepcopy(model).double() for model in (masked, compact)]
    plan = [Batch(np.asarray([index], dtype=np.int64)) for index in indices]
    wrong = []
    for index, (inputs, _) in zip(indices, images.batches(plan), strict=True):
        first, second = (logits_of(model(inputs.double())) for model in pair)
        if int(first.argmax()) != int(second.argmax()) and not torch.allclose(first, second, rtol=1e-9, atol=1e-12):
            wrong.append(index)
    return wrong
