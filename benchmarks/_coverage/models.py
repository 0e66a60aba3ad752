"""Which models are asked, how they are built, and with what inputs.

torchvision: every model but the quantizable ones. timm: of every architecture module the model with the fewest
parameters (`timm_models.json`, written by `benchmarks._coverage.smallest`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

TIMM_LIST = Path(__file__).parent / "timm_models.json"
LARGE = 150_000_000
"""Parameters from which on one sample is enough of a batch."""

Task = Literal["classification", "segmentation", "detection", "video", "optical_flow"]
Shape = tuple[int, ...]

#: Frames and image sizes (smallest first) for the tasks whose models name none themselves.
CLIPS: tuple[Shape, ...] = ((3, 8, 64, 64), (3, 16, 112, 112), (3, 16, 224, 224))
FLOW_FRAME: Shape = (3, 128, 128)
SEGMENTED: Shape = (3, 96, 96)
DETECTED: Shape = (3, 192, 256)
NATIVE_CLIPS = {"mvit_v1_b": CLIPS[2], "mvit_v2_s": CLIPS[2], "s3d": CLIPS[2]}


@dataclass(frozen=True)
class Entry:
    """One model to ask.

    Attributes:
        suite: ``"torchvision"`` or ``"timm"``.
        name: the library's name for it.
        family: the task (torchvision) or the architecture module (timm).
    """

    suite: str
    name: str
    family: str

    @property
    def key(self) -> str:
        """A unique name: ``suite/name``."""
        return f"{self.suite}/{self.name}"

    @property
    def task(self) -> Task:
        """What the model does; decides its inputs."""
        return "classification" if self.suite == "timm" else self.family  # type: ignore[return-value]


def entries(suite: str = "all") -> Iterator[Entry]:
    """The models of a suite, or of all."""
    if suite in ("torchvision", "all"):
        yield from _torchvision()
    if suite in ("timm", "all"):
        for family, chosen in json.loads(TIMM_LIST.read_text())["models"].items():
            yield Entry("timm", chosen["name"], family)


def _torchvision() -> Iterator[Entry]:
    from torchvision import models

    for family, module in (
        ("classification", models),
        ("segmentation", models.segmentation),
        ("detection", models.detection),
        ("video", models.video),
        ("optical_flow", models.optical_flow),
    ):
        for name in models.list_models(module):
            yield Entry("torchvision", name, family)


def build(entry: Entry) -> nn.Module:
    """The model in float32 and eval mode, with its own initial weights."""
    if entry.suite == "timm":
        import timm

        return timm.create_model(entry.name, pretrained=False).eval()
    import torchvision

    builder: Callable[..., nn.Module] = torchvision.models.get_model_builder(entry.name)
    options: dict[str, Any] = {"weights": None}
    if entry.family in ("segmentation", "detection"):
        options["weights_backbone"] = None
    if entry.name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # a slow draw that is thrown away
    return builder(**options).eval()


@dataclass(frozen=True)
class Sizes:
    """The input shapes of one sample, without the batch.

    Attributes:
        native: what the model is made for; tracing is timed on it.
        check: what equality is checked on: smaller where the model allows it.
        batch: samples in a batch.
    """

    native: Shape
    check: Shape
    batch: int


def sizes(entry: Entry) -> Sizes:
    """The rule: half of the native image, in multiples of 32, where the model runs on that; else the native one.

    It is tried on a model of its own: some keep masks and indices from one call to the next.
    """
    model = build(entry)
    batch = 1 if sum(p.numel() for p in model.parameters()) > LARGE else 2
    native = _native(entry, model)
    small = _smaller(entry, native)
    return Sizes(
        native, small if small != native and runs(model, inputs(entry, small, 1, torch.float32)) else native, batch
    )


def _native(entry: Entry, model: nn.Module) -> Shape:
    if entry.suite == "timm":
        config: Any = model.pretrained_cfg
        return tuple(config["input_size"])
    if entry.task == "video":
        return NATIVE_CLIPS.get(entry.name, CLIPS[1])
    if entry.task == "classification":
        side = 299 if entry.name == "inception_v3" else 224
        return (3, side, side)
    return {"optical_flow": FLOW_FRAME, "segmentation": (3, 224, 224), "detection": DETECTED}[entry.task]


def _smaller(entry: Entry, native: Shape) -> Shape:
    if entry.task == "video":
        return CLIPS[0]
    if entry.task == "segmentation":
        return SEGMENTED
    if entry.task in ("optical_flow", "detection"):
        return native
    return (native[0], *(32 * math.ceil(side / 64) for side in native[1:]))


def runs(model: nn.Module, arguments: tuple[Any, ...]) -> bool:
    """Whether the model takes these inputs."""
    try:
        with torch.no_grad():
            model(*arguments)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
        return False
    return True


def inputs(entry: Entry, shape: Shape, batch: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """Random positional inputs."""
    generator = torch.Generator().manual_seed(0)

    def sample(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    if entry.task == "detection":
        return ([sample(*shape).sigmoid() for _ in range(batch)],)
    if entry.task == "optical_flow":
        return sample(batch, *shape), sample(batch, *shape)
    return (sample(batch, *shape),)
