"""Nets that standardise: weights over their inputs, activations over channels. What is gone still counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PRUNABLE, Family, Sandwich, conv, image, tokens

family = Family()

Standardise = Callable[[Tensor], Tensor]


class StandardisedConv(nn.Conv2d):
    """A convolution whose weight is standardised before each use, by a given spelling."""

    def __init__(self, inputs: int, outputs: int, standardise: Standardise, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, padding=1, groups=groups)
        self.standardise = standardise
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.standardise(self.weight) * self.gain
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _by_batch_norm(weight: Tensor) -> Tensor:
    flat = weight.reshape(1, len(weight), -1)
    return F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-4).reshape_as(weight)


def _by_var_mean(weight: Tensor) -> Tensor:
    variance, mean = torch.var_mean(weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
    return (weight - mean) / (variance + 1e-5).sqrt()


def _by_std(weight: Tensor) -> Tensor:
    mean = weight.mean(dim=(1, 2, 3), keepdim=True)
    return (weight - mean) / (weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5)


def _by_layer_norm(weight: Tensor) -> Tensor:
    return F.layer_norm(weight, weight.shape[1:])


def _by_length(weight: Tensor) -> Tensor:
    return F.normalize(weight.flatten(1), dim=1).view_as(weight)


def _by_sum(weight: Tensor) -> Tensor:
    return weight / (weight.abs().sum((1, 2, 3), keepdim=True) + 1e-5)


class Standardised(nn.Module):
    """Two of them in a row."""

    def __init__(self, standardise: Standardise, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = StandardisedConv(3, 8, standardise)
        self.conv2 = StandardisedConv(8, 8, standardise, groups)
        self.conv3 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))


for _standardise in (_by_batch_norm, _by_var_mean, _by_std, _by_layer_norm, _by_length, _by_sum):
    _name = _standardise.__name__[1:]
    family.add(
        f"weight_standardised_{_name}",
        lambda standardise=_standardise: Standardised(standardise),
        image(),
        "A weight standardised over its inputs: columns that are gone were zero, and still count.",
        {
            "conv1.weight:0": (8, 8),
            "conv2.weight:1": (8, 8),
            "conv2.weight:0": (8, 8),
            "conv2.gain:0": (8, 8),
            "conv3.weight:1": (8, 8),
        },
    )
    family.add(
        f"weight_standardised_{_name}_grouped",
        lambda standardise=_standardise: Standardised(standardise, groups=2),
        image(),
        "The same in a grouped convolution: a channel of every group goes.",
        {"conv1.weight:0": (8, 4), "conv2.weight:1": (4, 4), "conv2.weight:0": (8, 4)},
    )
for _name, _spread in {
    "var": lambda x: x.var(1, keepdim=True),
    "var_biased": lambda x: torch.var(x, 1, False, True),
    "var_correction": lambda x: torch.var(x, dim=(1,), correction=0, keepdim=True),
    "var_of_all": lambda x: x.var(),
    "std": lambda x: x.std(dim=1, unbiased=False)[:, None],
    "std_of_all_biased": lambda x: x.std(False),
    "var_mean": lambda x: sum(torch.var_mean(x, 1, keepdim=True)),
    "std_mean": lambda x: torch.std_mean(x, (1, 2), keepdim=True)[0],
}.items():

    class Spread(Sandwich):
        """Scaled by how much the channels differ."""

        def __init__(self, spread: Standardise) -> None:
            super().__init__()
            self.spread = spread

        def trap(self, x: Tensor) -> Tensor:
            return x / (1 + self.spread(x))

    family.add(
        f"divided_by_{_name}",
        lambda spread=_spread, net=Spread: net(spread),
        image(),
        "A variance over channels: those that are gone were zero, and still count.",
        PRUNABLE,
    )


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:0": 0, "conv2.weight:1": (8, 8)})
class DividedByNothing(nn.Module):
    """Rows divided by their own sum: a row at zero would be zero divided by zero, whatever comes after."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv(3, 8), conv(8, 6), conv(6, 4)
        self.gain = nn.Parameter(torch.ones(6, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv2.weight
        weight = self.gain * (weight / weight.abs().sum((1, 2, 3), keepdim=True))
        return self.conv3(F.relu(F.conv2d(F.relu(self.conv1(x)), weight, padding=1)))


@family.case(tokens(), {"project.weight:0": (8, 8), "mix.weight:1": (8, 8), "mix.weight:0": (8, 8)})
class NormsInARow(nn.Module):
    """Two layer norms and an RMS norm behind each other, shared by two branches of a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.mix, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.norm, self.rms = nn.LayerNorm(8, eps=1e-3), nn.RMSNorm(8, eps=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.norm(self.project(x)))
        x = x + self.mix(F.gelu(self.rms(self.norm(x))))
        return self.head(self.rms(x))


@family.case(tokens(), {"project.weight:0": (8, 8)})
class FunctionalNorms(nn.Module):
    """Functional norms on bare parameters, the shape taken from the tensor, the epsilon by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(self.project(x), [8], weight=self.scale, bias=self.shift, eps=1e-2)
        x = F.rms_norm(x, x.shape[-1:], self.scale, eps=1e-2) + F.rms_norm(x, (8,))
        x = F.group_norm(x.transpose(1, 2), 1, self.scale, self.shift, eps=1e-2).transpose(1, 2)
        return self.head(x)


@family.case(tokens(), {"one.weight:0": (8, 8), "two.weight:0": (8, 8), "two.weight:1": (8, 8)})
class BareRMSNormTwice(nn.Module):
    """One RMS norm without parameters for two streams that are cut differently."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(8, eps=1e-3, elementwise_affine=False)
        self.one, self.two, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.two(F.gelu(self.norm(self.one(x))))))
