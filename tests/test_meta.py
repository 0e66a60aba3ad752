"""Models on torch's meta device: what needs no values works, everything else says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import atofx
from atofx import zoo
from atofx.cost import count_flops
from atofx.errors import NoValuesError


class MakesTensors(nn.Module):
    """A buffer, and tensors that ``forward`` makes on the device of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 2)
        self.register_buffer("order", torch.arange(8).flip(0))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).index_select(1, self.order)
        x = x * torch.ones(x.shape[2:], device=x.device) + torch.zeros(x.shape[2:], device=x.device)
        return self.head(x.mean((2, 3)))


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": zoo.resnet20,
    "mobilenet_v2": models.mobilenet_v2,
    "swin_t": models.swin_t,
    "convnext_tiny": models.convnext_tiny,
}


def on_meta(build: Callable[[], nn.Module], side: int) -> tuple[nn.Module, Tensor]:
    with torch.device("meta"):
        return build().eval(), torch.randn(1, 3, side, side)


@pytest.mark.parametrize("name", BUILDERS)
def test_costs_are_those_of_the_same_model_with_values(name: str) -> None:
    model, image = on_meta(BUILDERS[name], 64)
    program, real = atofx.trace(model, image), atofx.trace(BUILDERS[name]().eval(), torch.randn(1, 3, 64, 64))
    mask = program.random_mask()
    assert mask == real.random_mask()
    assert (program.flops(), program.params()) == (real.flops(), real.params())
    small = program.compact(mask)
    assert count_flops(small, (image,)) == program.flops(mask) == real.flops(mask)
    assert all(tensor.is_meta for each in (model, small) for tensor in each.parameters())


def test_tensors_that_the_model_makes_on_its_device() -> None:
    real = atofx.trace(MakesTensors().eval(), torch.randn(1, 3, 8, 8))
    model = MakesTensors().eval().to("meta")
    program = atofx.trace(model, torch.randn(1, 3, 8, 8, device="meta"))
    assert program.flops() == real.flops() > 0


def test_what_needs_values_says_so_and_works_once_they_are_there(tmp_path: Path) -> None:
    model, image = on_meta(zoo.resnet20, 32)
    program = atofx.trace(model, image)
    mask = atofx.methods.oneshot(program, flops=0.5, criterion="random")
    needing: dict[str, Callable[[], object]] = {
        "verifying": lambda: program.verify(mask),
        "finding zeros": program.zero_mask,
        "saving": lambda: atofx.save(program, mask, tmp_path / "small.safetensors"),
        "a criterion that looks at weights": lambda: atofx.methods.oneshot(program, flops=0.5),
        "criterion 'taylor'": lambda: atofx.methods.oneshot(program, flops=0.5, criterion="taylor"),
    }
    for purpose, call in needing.items():
        with pytest.raises(
            NoValuesError, match=rf"^{purpose} needs the model's values, but 'conv1\.weight' \(shape \(16"
        ):
            call()
    assert not list(tmp_path.iterdir())
    model.to_empty(device="cpu")
    model.load_state_dict(zoo.resnet20().state_dict())
    atofx.save(program, mask, tmp_path / "small.safetensors")
    small = atofx.load(tmp_path / "small.safetensors", zoo.resnet20)
    assert torch.equal(small.get_parameter("fc.bias"), model.get_parameter("fc.bias"))
