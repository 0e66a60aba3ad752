"""Nets whose difficulty is how they are put together: sharing, tying, several inputs and outputs, in-place work."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PINNED, PRUNABLE, Expected, Family, Sandwich, conv, image, tokens, vectors

family = Family()


# ------------------------------------------------------------------------------------------------------------ sharing


@family.case(
    image(), {"conv1.weight:0": (8, 8), "loop.weight:0": (8, 8), "loop.weight:1": (8, 8), "conv2.weight:1": (8, 8)}
)
class UsedTwiceInARow(nn.Module):
    """One convolution applied twice: its rows are its own columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.loop, self.conv2 = conv(3, 8), conv(8, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.loop(F.relu(self.loop(self.conv1(x)))))


@family.case(
    image(), {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "both.weight:0": (6, 6), "both.weight:1": (8, 8)}
)
class UsedOnTwoBranches(nn.Module):
    """One convolution reads two branches: their channels are tied, and so are its two results, though joined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side, self.both, self.conv2 = conv(3, 8), conv(3, 8), conv(8, 6), conv(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.cat([self.both(self.conv1(x)), self.both(self.side(x))], 1))


@family.case(image(), {"conv1.weight:0": 0, "conv2.weight:1": 0})
class UsedOnImageAndHidden(nn.Module):
    """One layer reads the image and hidden channels alike: nothing it reads can go."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 3), conv(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(x) + self.conv2(self.conv1(x))


@family.case(image(), {"block.0.weight:0": (6, 6), "block.2.weight:0": (8, 8), "stem.weight:0": (8, 8)})
class BlockInALoop(nn.Module):
    """A block is run three times over its own output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.block = nn.Sequential(conv(8, 6), nn.BatchNorm2d(6), conv(6, 8))
        self.head = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + self.block(x)
        return self.head(x)


@family.case(image(), {"layers.0.weight:0": (8, 8), "layers.1.weight:0": (8, 8), "heads.a.weight:1": (8, 8)})
class ModulesInContainers(nn.Module):
    """Modules in a list, in a dict, in a plain Python list; one of them is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv(3, 8), conv(8, 8), conv(8, 8)])
        self.heads = nn.ModuleDict({"a": conv(8, 4), "b": conv(8, 4), "never": conv(8, 4)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return sum(self.heads[name](x) for name in ("a", "b"))


@family.case(image(), {"conv1.weight:0": (8, 8), "a.weight:0": (8, 8), "a.weight:1": (8, 8), "conv2.weight:1": (8, 8)})
class TiedLayers(nn.Module):
    """Two layers with one weight but two biases: the rows of the weight are its columns, both biases are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.a, self.b, self.conv2 = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.b(F.relu(self.a(self.conv1(x))))))


@family.case(vectors(), {"encoder.weight:0": (8, 8), "encoder.weight:1": 0, "bias:0": 0})
class TiedTransposed(nn.Module):
    """An autoencoder whose decoder is the encoder's weight transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 8)
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(self.encoder(x)), self.encoder.weight.t(), self.bias)


@family.case(image(), PRUNABLE)
class TwoNamesForOneModule(nn.Module):
    """One module under two names: one set of parameters, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.act = nn.PReLU(8)
        self.again = self.act
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.again(self.act(self.conv1(x)) - 0.5 * self.conv1(x)))


@family.case(image(), PRUNABLE)
class UnusedModule(nn.Module):
    """Modules and parameters that the forward pass never meets, or whose result is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.unused, self.wasted, self.conv2 = conv(3, 8), conv(8, 8), conv(8, 5), conv(8, 4)
        self.norm = nn.BatchNorm2d(8)
        self.alone = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        self.wasted(x)
        return self.conv2(x)


@family.case(image(), PRUNABLE)
class Frozen(nn.Module):
    """Frozen parameters are cut like others and stay frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)
        self.conv1.requires_grad_(False)
        self.conv2.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x)))


@family.case(
    image(), {"conv1.weight:0": (8, 8), "scales.0:0": (8, 8), "scales.1:0": (8, 8), "norm.num_batches_tracked:0": 0}
)
class ParametersInAList(nn.Module):
    """Bare parameters in a list, and a buffer without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = conv(3, 8), nn.BatchNorm2d(8), conv(8, 4)
        self.scales = nn.ParameterList([torch.ones(8, 1, 1), torch.ones(8, 1, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv1(x))
        for scale in self.scales:
            x = F.relu(x * scale)
        return self.conv2(x)


# -------------------------------------------------------------------------------------------------- inputs and outputs


@family.case(
    lambda batch: (
        torch.randn(batch, 3, 6, 6, dtype=torch.float64),
        torch.randn(batch, 5, dtype=torch.float64),
    ),
    {"conv1.weight:0": (8, 8), "fc.weight:0": (8, 8), "fc.weight:1": 0},
)
class TwoInputs(nn.Module):
    """Two inputs of different kinds; one scales the channels of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.fc, self.conv2 = conv(3, 8), nn.Linear(5, 8), conv(8, 4)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.conv2(self.conv1(x) * self.fc(z)[:, :, None, None])


@family.case(
    lambda batch: {
        "shift": torch.randn(batch, 8, 1, 1, dtype=torch.float64),
        "picture": torch.randn(batch, 3, 6, 6, dtype=torch.float64),
    },
    {"conv1.weight:0": 0},
)
class DictInputs(nn.Module):
    """Inputs by keyword, in another order and one left out; an input as wide as the channels pins them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, picture: Tensor, factor: float = 2.0, shift: Tensor | None = None) -> Tensor:
        x = self.conv1(picture) * factor
        return self.conv2(x if shift is None else x + shift)


@family.case(
    lambda batch: {
        "picture": torch.randn(batch, 3, 6, 6, dtype=torch.float64),
        "gain": torch.randn(batch, 8, 1, 1, dtype=torch.float64),
    },
    {"conv1.weight:0": 0},
)
class InputScalesChannels(nn.Module):
    """An input with one number for each hidden channel fixes their number, though zero times anything is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, picture: Tensor, gain: Tensor) -> Tensor:
        return self.conv2(self.conv1(picture) * gain)


@family.case(image(), {"stem.weight:0": (8, 8), "a.weight:0": 0, "b.weight:0": 0})
class DictOutputs(nn.Module):
    """Outputs in a dict with a tuple in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8), conv(8, 4), conv(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        x = self.stem(x)
        return {"a": self.a(x), "more": (self.b(F.relu(x)), x.mean((1, 2, 3)) * 0)}


@family.case(image(), PINNED)
class HiddenOutput(nn.Module):
    """A hidden layer is an output as well: pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv1(x)
        return self.conv2(x), x


@family.case(image(), PINNED)
class HiddenOutputAfterPool(nn.Module):
    """Pooled features are an output: pinned, through the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.conv1(x))
        return [F.adaptive_avg_pool2d(x, 1).flatten(1), self.conv2(x)]


@family.case(image(), {"conv1.weight:0": 6, "conv2.weight:1": 6})
class PartOfHiddenIsOutput(nn.Module):
    """Two of eight channels are an output: they stay, the others may go."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv1(x)
        return self.conv2(x), x[:, 3:5]


@family.case(image())
class InputIsOutput(nn.Module):
    """The image is handed through, and a constant is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        return x, self.conv2(self.conv1(x)), 1.0


@family.case(image(), {"conv1.weight:0": 0})
class SizeIsOutput(nn.Module):
    """The outcome depends on the hidden width as a number that is multiplied in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return x * x.shape[1]


# ----------------------------------------------------------------------------------------------------------- in place


@family.case(image(), {"stem.weight:0": (8, 8), "conv1.weight:0": (8, 8), "conv2.weight:1": (8, 8)})
class InPlaceRelu(nn.Module):
    """An in-place relu changes the shortcut as well, since it is the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = conv(3, 8), conv(8, 8), conv(8, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(self.relu(x))
        y += x
        return self.conv2(F.relu_(y))


@family.case(image())
class InPlaceSigmoidSeenElsewhere(nn.Module):
    """sigmoid_ on a tensor that is read again under its old name: what is read is not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = x.sigmoid_()
        return self.conv2(x) * y.mean()


@family.case(image())
class InPlaceOnAView(nn.Module):
    """sigmoid_ on the first half of the channels, its result thrown away: only the other half is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x[:, :4].sigmoid_()
        return self.conv2(x)


@family.case(image())
class InPlaceOnAFlatView(nn.Module):
    """add_ through a flattened view reaches the tensor itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        flat = x.view(x.shape[0], -1)
        flat.add_(1.0)
        return self.conv2(x)


@family.case(
    image(), {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "conv2.weight:1": (8, 8), "conv3.weight:1": (8, 8)}
)
class InPlaceAddition(nn.Module):
    """add_ and mul_ change their first operand, which is read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 8)
        self.conv2, self.conv3 = conv(8, 4), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv1(x), self.side(x)
        a.add_(b, alpha=0.5)
        b.mul_(3.0).clamp_(-1, 1)
        return self.conv2(a) + self.conv3(b)


@family.case(image())
class ReadBeforeOverwritten(nn.Module):
    """A tensor is read while zero-preserving, then made non-zero in place, then read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv(3, 8), conv(8, 4), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        before = self.conv2(x)
        x += 1
        return before + self.conv3(x)


@family.case(image())
class ZeroedChannels(nn.Module):
    """Some channels are overwritten with zero through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x[:, 2:4].zero_()
        x.narrow(1, 6, 1).fill_(2.0)
        return self.conv2(x)


@family.case(image())
class SetItem(nn.Module):
    """Channels of one tensor are assigned to places of another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side, self.conv2 = conv(3, 8), conv(3, 4), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x).clone()
        y[:, 2:6] = self.side(x)
        y[:, 0] = 0.0
        return self.conv2(y)


@family.case(image())
class CopyInto(nn.Module):
    """copy_ into a slice of new zeros builds a concat by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side, self.conv2 = conv(3, 5), conv(3, 3), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], 8, x.shape[2], x.shape[3])
        y[:, :5].copy_(self.conv1(x))
        y[:, 5:].copy_(self.side(x))
        return self.conv2(y)


@family.case(image(), PRUNABLE)
class OperatorFunctions(nn.Module):
    """Augmented operators and operator functions instead of signs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = operator.mul(x, 2.0)
        y = operator.iadd(y, x)
        y -= operator.truediv(x, 4)
        y *= operator.neg(x)
        return self.conv2(y)


@family.case(image(), PRUNABLE)
class InPlaceOnInput(nn.Module):
    """The forward pass works on its input in place: tracing must not spoil the user's example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2.0)
        x[:, 0].sub_(1.0)
        return self.conv2(self.conv1(x))


# ------------------------------------------------------------------------------------------------ checks and conditions


@family.case(image(), PRUNABLE)
class AssertedWidth(Sandwich):
    """The forward pass checks the hidden width: the check must speak of the new width, or go."""

    def trap(self, x: Tensor) -> Tensor:
        torch._assert(x.shape[1] == 8, "eight channels expected")
        return x


@family.case(image(), may_refuse=True)
class WidthDecides(Sandwich):
    """A Python condition on the hidden width is decided once; it must not be decided anew by the smaller net."""

    def trap(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] == 8 else x * 3


@family.case(image(), PRUNABLE)
class ConditionOnModule(Sandwich):
    """A condition on the module's own attributes, and a helper function with default arguments."""

    doubled = True

    def scale(self, x: Tensor, *, by: float = 2.0) -> Tensor:
        return x * by

    def trap(self, x: Tensor) -> Tensor:
        return self.scale(x) if self.doubled else x


class Hooked(nn.Module):
    """A forward hook replaces what a layer returns."""

    def __init__(self, hook: Callable[[nn.Module, Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)
        self.conv1.register_forward_hook(hook)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


@family.case(image(), {"conv1.weight:0": (0, 0), "conv2.weight:1": (0, 0)})
class HookChangesOutput(Hooked):
    """What the hook returns is not zero where its channel is, nor can a padded convolution take it up."""

    def __init__(self) -> None:
        super().__init__(lambda module, inputs, output: output.flip(1) + 1)


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (8, 8)})
class HookTurnsChannels(Hooked):
    """What the hook returns has the channels in another order, and is zero where they are."""

    def __init__(self) -> None:
        super().__init__(lambda module, inputs, output: output.flip(1) * 2)


# ------------------------------------------------------------------------------------------------------- small wholes

RESIDUAL: dict[str, Expected] = {
    "stem.weight:0": (8, 8),
    "conv1.weight:0": (7, 7),
    "conv2.weight:0": (8, 8),
    "norm2.bias:0": (8, 8),
    "head.weight:1": (8, 8),
}


@family.case(image(), RESIDUAL)
class BasicBlock(nn.Module):
    """A residual block: what meets in the addition is tied, what is inside is free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1, self.norm1 = conv(8, 7, bias=False), nn.BatchNorm2d(7)
        self.conv2, self.norm2 = conv(7, 8, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return self.head(F.relu(x + y).mean((2, 3)))


@family.case(
    image(3, 8), {"down.weight:0": (6, 6), "deep.weight:0": (8, 8), "up.weight:1": (6, 6), "merge.weight:1": (12, 12)}
)
class UNet(nn.Module):
    """Down and up again, with a skip joined to the upsampled tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = conv(3, 6), conv(6, 8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.merge, self.head = conv(12, 6), conv(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down(x))
        x = self.up(F.relu(self.deep(F.max_pool2d(skip, 2))))
        return self.head(F.relu(self.merge(torch.cat([skip, x], 1))))


@family.case(image(3, 8), {"c1.weight:0": (6, 6), "l1.weight:0": (5, 5), "l2.weight:0": (5, 5), "c2.weight:0": (8, 8)})
class Pyramid(nn.Module):
    """A feature pyramid: lateral convolutions added to an upsampled top, a head shared by all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 6), conv(6, 8)
        self.l1, self.l2 = conv(6, 5, 1), conv(8, 5, 1)
        self.head = conv(5, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        c1 = F.relu(self.c1(x))
        c2 = F.relu(self.c2(F.avg_pool2d(c1, 2)))
        p2 = self.l2(c2)
        p1 = self.l1(c1) + F.interpolate(p2, size=c1.shape[-2:], mode="nearest")
        return [self.head(p1), self.head(p2)]


@family.case(image(), {"conv1.weight:0": 8, "side.weight:0": 8})
class ConcatOfSums(nn.Module):
    """A concat of a sum and one of its terms, cut at another place: ties cross the borders."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 8)
        self.a, self.b = conv(5, 4), conv(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, y = self.conv1(x), self.side(x)
        a, b = torch.cat([x + y, y], 1).split([5, 11], 1)
        return self.a(a) + self.b(b)


@family.case(tokens(), {"fc1.weight:0": (8, 8)})
class EqualSizes(nn.Module):
    """Widths equal to the batch size and the number of tokens: sizes alone tell nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        return self.fc3(x.transpose(1, 2).transpose(0, 1).transpose(0, 1).transpose(1, 2))
