"""Nets whose difficulty is where data moves: slices, joins, pads, permutations, views."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import PINNED, PRUNABLE, Family, Sandwich, conv, image, tokens

family = Family()


# ---------------------------------------------------------------------------------------------------- slices, indices


@family.case(image(), {"conv2.weight:1": 4})
class StridedSlice(Sandwich):
    """A strided slice sees every second channel; what it skips must not shift what it sees."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        return x[:, ::2]


@family.case(image(), {"conv2.weight:1": 3})
class StridedSliceWithOffset(Sandwich):
    """Start, stop and step of a slice all count channels."""

    seen = 3

    def trap(self, x: Tensor) -> Tensor:
        return x[:, 1:7:2]


@family.case(image(), {"conv2.weight:1": 4})
class NegativeSlice(Sandwich):
    """A slice counted from the end must be counted from the new end."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        return x[:, -5:-1]


@family.case(image())
class NegativeIndex(Sandwich):
    """Picking the last channel drops the dimension: that channel is not any channel that happens to be last later."""

    seen = 1

    def trap(self, x: Tensor) -> Tensor:
        return x[:, -1].unsqueeze(1)


@family.case(image())
class ListIndex(Sandwich):
    """A list picks channels out of order and one of them twice: the two copies live and die together."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        return x[:, [5, 0, 0, 2]]


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (8, 8)})
class BufferIndex(Sandwich):
    """A permutation kept in a buffer must be renumbered."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 0, 7, 1, 6, 2, 5, 4]))

    def trap(self, x: Tensor) -> Tensor:
        return x[:, self.order]


@family.case(image(), {"conv2.weight:1": 4})
class BooleanIndex(Sandwich):
    """A boolean buffer as index must lose its entries with the channels."""

    seen = 4

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.tensor([True, False, False, True, True, False, True, False]))

    def trap(self, x: Tensor) -> Tensor:
        return x[:, self.chosen]


@family.case(image(), PRUNABLE)
class ConstantIndex(Sandwich):
    """An index tensor made in the forward pass is a constant that must be renumbered."""

    def trap(self, x: Tensor) -> Tensor:
        return x[:, torch.arange(7, -1, -1)]


@family.case(image(), {"conv2.weight:1": 5})
class IndexSelect(Sandwich):
    """index_select with a constant index."""

    seen = 5

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([6, 1, 4, 0, 7]))

    def trap(self, x: Tensor) -> Tensor:
        return torch.index_select(x, 1, self.order)


@family.case(image(), {"conv2.weight:1": 4})
class EllipsisAndNone(Sandwich):
    """None and the ellipsis shift which entry of an index speaks of channels."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        return x[:, None, 2:6, ..., 1:].squeeze(1)


@family.case(image(), {"conv1.weight:0": (8, 4), "conv2.weight:1": (4, 4)})
class HalvesBySize(Sandwich):
    """Slice bounds computed from the width: a channel is tied to the one half the old width further on."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x[:, :half] + x[:, half:]


@family.case(image(), {"conv2.weight:1": 4})
class Narrow(Sandwich):
    """narrow counts start and length in channels."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        return x.narrow(1, 2, 4)


@family.case(image())
class Select(Sandwich):
    """select drops the channel dimension; the number is a name of one channel."""

    seen = 1

    def trap(self, x: Tensor) -> Tensor:
        return torch.select(x, 1, 3)[:, None]


@family.case(image(), {"narrow.weight:1": 4, "wide.weight:1": 60})
class FewOfMany(nn.Module):
    """4 of 64 channels have a consumer of their own: neither consumer may end with no channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 64)
        self.narrow = conv(4, 2)
        self.wide = conv(60, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.narrow(x[:, :4]) + self.wide(x[:, 4:])


@family.case(image())
class OneChannelTimesAll(Sandwich):
    """One channel multiplies all by broadcasting: if it goes, an empty slice must not meet the rest."""

    def trap(self, x: Tensor) -> Tensor:
        return x * x[:, 0:1]


@family.case(image())
class GatherChannels(Sandwich):
    """gather picks another channel at every pixel."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("pick", torch.randint(8, (1, 8, 6, 6), generator=generator))

    def trap(self, x: Tensor) -> Tensor:
        return x.gather(1, self.pick.expand(x.shape[0], -1, -1, -1))


@family.case(image(), PINNED)
class SortChannels(Sandwich):
    """After sorting, a place is no channel any more: pinned."""

    def trap(self, x: Tensor) -> Tensor:
        return x.sort(dim=1)[0]


@family.case(image(), {"conv1.weight:0": 0})
class TopK(Sandwich):
    """Which channels are the largest depends on the data: pinned."""

    seen = 3

    def trap(self, x: Tensor) -> Tensor:
        return x.topk(3, dim=1)[0]


@family.case(image(), {"conv1.weight:0": 0})
class IndexFromData(Sandwich):
    """An index computed from the data cannot be renumbered: pinned."""

    def trap(self, x: Tensor) -> Tensor:
        return x[:, x.mean((0, 2, 3)).argsort()]


_CHOSEN: dict[str, Callable[[Tensor], Tensor]] = {
    "topk": lambda x: x.topk(8)[1],
    "sort": lambda x: x.sort().indices,
    "max": lambda x: x[:, None].expand(8, 8).max(0)[1],
    "pieces": lambda x: torch.cat(x.argsort().chunk(2)[::-1]),
}
for _name, _choose in _CHOSEN.items():

    class ChosenByData(Sandwich):
        """Which channels are read depends on the data, by one of several results of an operation: pinned."""

        def __init__(self, choose: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.choose = choose

        def trap(self, x: Tensor) -> Tensor:
            return x[:, self.choose(x.mean((0, 2, 3)))]

    family.add(
        f"chosen_by_{_name}",
        lambda choose=_choose, net=ChosenByData: net(choose),
        image(),
        "An index that is one of several results of an operation on the data is no constant.",
        {"conv1.weight:0": 0},
    )


_LISTED: dict[str, Callable[[], Tensor]] = {
    "chunk": lambda: torch.arange(16).chunk(2)[1] - 8,
    "unbind": lambda: torch.cat(torch.arange(8).view(2, 4).unbind()[::-1]),
    "meshgrid": lambda: torch.meshgrid(torch.arange(2), torch.arange(8), indexing="ij")[1][0],
    "transposed": lambda: torch.arange(8).view(2, -1).T.flatten(),
    "sort": lambda: torch.arange(8).flip(0).sort().indices,
    "where": lambda: torch.where(torch.arange(16) > 7)[0] - 8,
}
for _name, _list in _LISTED.items():

    class ListedByConstants(Sandwich):
        """Which channels are read is the same for all data: prunable."""

        def __init__(self, listed: Callable[[], Tensor]) -> None:
            super().__init__()
            self.listed = listed

        def trap(self, x: Tensor) -> Tensor:
            return x[:, self.listed()]

    family.add(
        f"listed_by_{_name}",
        lambda listed=_list, net=ListedByConstants: net(listed),
        image(),
        "An index that is one of several results of an operation on constants is a constant.",
        PRUNABLE,
    )


@family.case(image(), {"conv1.weight:0": 0})
class IndexWrittenThroughAPiece(Sandwich):
    """An index is changed through one of the pieces it was split into."""

    seen = 8

    def trap(self, x: Tensor) -> Tensor:
        index = torch.arange(8)
        first, _ = index.chunk(2)
        first.add_(4)
        return x[:, index]


@family.case(tokens(), {"fc1.weight:0": (8, 8)})
class TokensByScore(nn.Module):
    """The tokens with the highest scores are kept: which ones depends on the data, their channels do not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.score, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x).relu()
        return self.fc2(x[:, self.score(x).mean((0, 2)).topk(3)[1]])


@family.case(tokens(), {"fc1.weight:0": (8, 8), "experts:2": (6, 6)})
class ExpertOfEachToken(nn.Module):
    """Every token takes the weights of the expert with the highest score."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.score, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(6, 4)
        self.experts = nn.Parameter(torch.randn(4, 8, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x).relu()
        return self.fc2(torch.einsum("btc,btcd->btd", x, self.experts[self.score(x).max(-1)[1]]).relu())


# -------------------------------------------------------------------------------------------------------------- joins


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (16, 8)})
class CatWithItself(Sandwich):
    """Both copies of a tensor joined with itself hold the same channels."""

    seen = 16

    def trap(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


class TwoStems(nn.Module):
    """``conv1`` and ``side`` meet in the trap, ``conv2`` sees the outcome."""

    seen = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.side = conv(3, 8)
        self.conv2 = conv(self.seen, 4)

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.trap(self.conv1(x), self.side(x)))


COUPLED = {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "conv2.weight:1": (8, 8)}


@family.case(image(), COUPLED)
class CatSpatial(TwoStems):
    """Joined along the height, the channels of both parts are tied."""

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], dim=2)


@family.case(image(), COUPLED)
class CatBatch(TwoStems):
    """Joined along the batch, the channels of both parts are tied."""

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat((x, y), 0)


@family.case(image(), {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "conv2.weight:1": (16, 16)})
class CatNegativeDim(TwoStems):
    """The channel dimension counted from the end."""

    seen = 16

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.concat([y, x], dim=-3)


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (8, 8)})
class CatWithInput(nn.Module):
    """The image is joined to hidden channels: its columns stay, the others shift."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.conv2 = conv(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.cat([x, self.conv1(x), x], 1))


@family.case(image(), {"conv1.weight:0": 8, "side.weight:0": 8, "conv2.weight:1": 16})
class StackInterleaves(TwoStems):
    """Stacked after the channels and flattened, two tensors interleave."""

    seen = 16

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y], dim=2).flatten(1, 2)


@family.case(image(), {"conv1.weight:0": 8, "side.weight:0": 8, "conv2.weight:1": 16})
class StackJoins(TwoStems):
    """Stacked before the channels and flattened, two tensors are joined; the 2 in the view is not a width."""

    seen = 16

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return torch.stack([x, y], 1).view(b, 2 * c, h, w)


@family.case(image(), COUPLED)
class StackThenSum(TwoStems):
    """A sum over the stacking dimension is an addition."""

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y]).sum(0)


@family.case(image())
class StackThenMax(TwoStems):
    """A maximum over the stacking dimension ties what it compares."""

    def trap(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack((x, y), dim=-1).amax(-1)


# ------------------------------------------------------------------------------------------------------------- splits


@family.case(image(), {"b.weight:1": 2, "c.weight:1": 5})
class UnevenSplit(nn.Module):
    """The sizes of a split are widths, each another one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.a, self.b, self.c = conv(1, 4), conv(2, 4), conv(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = torch.split(self.conv1(x), [1, 2, 5], dim=1)
        return self.a(a) + self.b(b) + self.c(c)


@family.case(image())
class SplitPooledApart(Sandwich):
    """All pieces have the same parameters around them, so all of the small piece can go: no pool may see nothing."""

    def trap(self, x: Tensor) -> Tensor:
        a, b = x.split([1, 7], 1)
        return torch.cat([F.avg_pool2d(b, 3, 1, 1), F.max_pool2d(a, 3, 1, 1)], 1)


@family.case(image())
class SplitReducedApart(Sandwich):
    """A piece that is reduced on its own and may become empty."""

    seen = 7

    def trap(self, x: Tensor) -> Tensor:
        a, b = x.split([1, 7], 1)
        return b + b * torch.amax(a, dim=(2, 3), keepdim=True)


@family.case(image())
class SplitBySize(nn.Module):
    """split by a number leaves a remainder; after pruning the pieces are unequal in other ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.a, self.b, self.c = conv(3, 4), conv(3, 4), conv(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        pieces = self.conv1(x).split(3, dim=1)
        return self.a(pieces[0]) + self.b(pieces[1]) + self.c(pieces[-1])


@family.case(image(), {"conv1.weight:0": (6, 6), "conv2.weight:1": (6, 6)})
class ChunkWithRemainder(Sandwich):
    """chunk of 7 channels in 3 gives 3, 3 and 1, joined backwards: no chunk may become empty, so the last one stays."""

    width = 7
    seen = 7

    def trap(self, x: Tensor) -> Tensor:
        a, b, c = x.chunk(3, dim=1)
        return torch.cat([c, torch.tanh(b), F.relu(a)], 1)


@family.case(image(), {"conv1.weight:0": 8})
class ChunkApart(nn.Module):
    """Each chunk has its own consumer: kept widths may differ, so chunk no longer cuts in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.a, self.b = conv(4, 4), conv(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.chunk(self.conv1(x), 2, 1)
        return self.a(a) - self.b(b)


@family.case(image(), {"conv1.weight:0": 8})
class TensorSplit(nn.Module):
    """tensor_split takes places to cut at, not sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.a, self.b, self.c = conv(2, 4), conv(3, 4), conv(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.conv1(x).tensor_split([2, 5], dim=1)
        return self.a(a) + self.b(b) * self.c(c)


@family.case(image())
class UnbindChannels(Sandwich):
    """unbind gives one tensor a channel; the number of results is the width."""

    width = 3
    seen = 3

    def trap(self, x: Tensor) -> Tensor:
        r, g, b = x.unbind(1)
        return torch.stack([g, r + b, b], 1)


@family.case(image())
class ShuffleUnit(nn.Module):
    """A ShuffleNet unit: half passes by, half is worked on, then both are mixed; twice, so that halves cross."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.branch1 = nn.Sequential(conv(4, 4, 1), nn.ReLU(), conv(4, 4, groups=4))
        self.branch2 = nn.Sequential(conv(4, 4, 1), nn.ReLU(), conv(4, 4, groups=4))
        self.conv2 = conv(8, 4)

    def mix(self, x: Tensor, branch: nn.Module) -> Tensor:
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, branch(b)), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w)
        return torch.transpose(x, 1, 2).contiguous().view(n, -1, h, w)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.mix(self.mix(self.conv1(x), self.branch1), self.branch2))


# --------------------------------------------------------------------------------------------------------------- pads


@family.case(image(3, 8), {"stem.weight:0": (8, 8), "conv2.weight:0": (16, 16), "head.weight:1": (16, 16)})
class OptionA(nn.Module):
    """The shortcut of a CIFAR ResNet: strided in space, padded with zero channels on both sides, then added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 16, stride=2)
        self.conv2 = conv(16, 16)
        self.head = conv(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.conv2(F.relu(self.conv1(x)))
        return self.head(F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)))


@family.case(image(), {"conv1.weight:0": (8, 8)})
class PadChannels(Sandwich):
    """Zero channels before and after hidden ones meet nothing but a convolution."""

    seen = 13

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 2, 3))


@family.case(image())
class PadChannelsWithOnes(Sandwich):
    """Padded channels of value one are no channels of the net and never zero."""

    seen = 11

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 1, 2), value=1.0)


@family.case(image(), {"conv2.weight:1": 5})
class CropChannels(Sandwich):
    """Negative padding crops channels."""

    seen = 5

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, -1, -2))


@family.case(image(), PINNED)
class PadSpaceWithOnes(Sandwich):
    """A border of ones is not zero in a dropped channel: pinned."""

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 1, 1, 1), value=1.0)


@family.case(image(), PRUNABLE)
class PadSpace(Sandwich):
    """Zero, mirrored, repeated and circular borders in space touch no channel."""

    def trap(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 0, 0, 1))
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.pad(x, (1, 1, 1, 1), mode="circular")


@family.case(image(), PRUNABLE)
class PadModules(nn.Module):
    """Borders made by modules and by a convolution's own padding mode."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.zero = nn.ZeroPad2d((1, 0, 1, 0))
        self.conv1 = conv(3, 8, padding_mode="reflect")
        self.conv2 = conv(8, 4, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.zero(self.pad(self.conv1(x))))


class TokenSandwich(nn.Module):
    """``fc1 -> trap -> fc2`` on tokens, whose channels are last."""

    width = 8
    seen = 8

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, self.width)
        self.fc2 = nn.Linear(self.seen, 4)

    def trap(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.trap(self.fc1(x)))


@family.case(tokens())
class PadChannelsReflect(TokenSandwich):
    """Mirrored channels at both ends are copies of the second and the last but one."""

    seen = 11

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (2, 1), mode="reflect")


@family.case(tokens())
class PadChannelsCircular(TokenSandwich):
    """Circular padding copies channels from the other end."""

    seen = 11

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 2), mode="circular")


@family.case(tokens())
class PadChannelsReplicate(TokenSandwich):
    """Replicating the outermost channel makes copies of one."""

    seen = 11

    def trap(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 2), mode="replicate")


# ------------------------------------------------------------------------------------------- permutations and copies


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 8})
class RollChannels(Sandwich):
    """A roll over channels by 3 is another roll among the kept ones."""

    def trap(self, x: Tensor) -> Tensor:
        return x.roll(3, 1)


@family.case(image(), {"conv1.weight:0": (9, 9), "conv2.weight:1": (9, 9)})
class RollOnceAround(Sandwich):
    """A roll by the whole width moves nothing, but among fewer channels the same number would."""

    width = 9
    seen = 9

    def trap(self, x: Tensor) -> Tensor:
        return x.roll(9, 1)


@family.case(image())
class RollIntoAddition(Sandwich):
    """A channel added to its neighbour ties each to the next, and so all into one."""

    def trap(self, x: Tensor) -> Tensor:
        return x + torch.roll(x, shifts=1, dims=1)


@family.case(image(), PRUNABLE)
class RollSpace(Sandwich):
    """A roll in space touches no channel."""

    def trap(self, x: Tensor) -> Tensor:
        return torch.roll(x, (1, -2), (2, 3))


@family.case(image(), PRUNABLE)
class FlipChannels(Sandwich):
    """The last channel becomes the first."""

    def trap(self, x: Tensor) -> Tensor:
        return x.flip(1)


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (16, 8)})
class RepeatChannels(Sandwich):
    """repeat lays copies end to end."""

    seen = 16

    def trap(self, x: Tensor) -> Tensor:
        return x.repeat(1, 2, 1, 1)


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (16, 8)})
class RepeatInterleave(Sandwich):
    """repeat_interleave lays copies side by side."""

    seen = 16

    def trap(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=1)


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (24, 8)})
class Tile(Sandwich):
    """tile counts its dimensions from the end."""

    seen = 24

    def trap(self, x: Tensor) -> Tensor:
        return torch.tile(x, (3, 1, 1))


@family.case(image(), {"conv1.weight:0": (32, 8), "conv2.weight:1": (8, 8)})
class PixelShuffle(nn.Module):
    """Four channels become the pixels of one: they live and die together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 32)
        self.up = nn.PixelShuffle(2)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.up(self.conv1(x)))


@family.case(image(), {"conv1.weight:0": (8, 8), "conv2.weight:1": (32, 8)})
class PixelUnshuffle(Sandwich):
    """The pixels of one channel become four channels."""

    seen = 32

    def trap(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)


@family.case(image(), {"conv1.weight:0": (32, 8), "conv2.weight:1": (8, 8)})
class PixelShuffleByHand(Sandwich):
    """Depth to space written with view and permute: the 2s in the view are no widths."""

    width = 32

    def trap(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(b, c // 4, h * 2, w * 2)


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 8})
class ChannelShuffle(nn.Module):
    """channel_shuffle is a permutation by columns and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.mix = nn.ChannelShuffle(2)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.mix(self.conv1(x)))


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 8})
class ChannelShuffleByHand(Sandwich):
    """Shuffling by view and transpose needs a rectangle: literals 2 and 4."""

    def trap(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        return x.view(b, 2, 4, h, w).transpose(1, 2).reshape(b, 8, h, w)


@family.case(image())
class ShuffleOverConcatWithImage(nn.Module):
    """The rectangle of a shuffle is made of hidden channels and of the image's, which cannot go: no end of tying."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 9)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.conv1(x), x], 1)
        return self.conv2(x.unflatten(1, (2, 6)).transpose(1, 2).flatten(1, 2))


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 8})
class ShuffleThenGroups(nn.Module):
    """Grouped convolution, shuffle, grouped convolution: two rectangles across each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.group1 = conv(8, 8, 1, groups=2)
        self.mix = nn.ChannelShuffle(2)
        self.group2 = conv(8, 8, groups=2)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.group2(self.mix(F.relu(self.group1(self.conv1(x))))))


# -------------------------------------------------------------------------------------------------------------- views


@family.case(image(3, 4), {"conv1.weight:0": (8, 8), "fc.weight:1": (128, 8)})
class FlattenSpace(nn.Module):
    """Each channel spans 16 columns of the linear layer after a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flat(F.relu(self.conv1(x))))


@family.case(image(3, 4), {"conv1.weight:0": (8, 8), "fc.weight:1": (128, 8)})
class FlattenChannelsLast(nn.Module):
    """Flattened with the channels last, each channel spans every eighth column."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv1(x).permute(0, 2, 3, 1).flatten(1))


@family.case(image(3, 4), {"conv1.weight:0": (8, 8), "fc.weight:1": (128, 8)})
class ViewWithLiteral(nn.Module):
    """view(-1, 128): the literal is a width times an area, and the batch is inferred."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv1(x).view(-1, 128))


@family.case(image(3, 4), {"conv1.weight:0": (8, 8), "fc.weight:1": (128, 8)})
class ViewBySizes(nn.Module):
    """Sizes read before the trap and multiplied in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        b, c, h, w = x.shape
        return self.fc(x.reshape(b, c * h * w))


@family.case(image(), PRUNABLE)
class ViewBackAndForth(Sandwich):
    """To tokens and back, the width a literal once and once read from elsewhere."""

    def trap(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        y = x.flatten(2).transpose(1, 2)
        y = y.reshape(-1, 8).view(x.size(0), h * w, 8)
        return y.permute(0, 2, 1).reshape(x.size(0), x.size(1), h, w)


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 4})
class ReshapeHalves(Sandwich):
    """Halves made by a view with a 2 and an inferred size, then multiplied."""

    seen = 4

    def trap(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        x = x.reshape(b, 2, -1, h, w)
        return x[:, 0] * x[:, 1]


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 8})
class EinopsChain(Sandwich):
    """b (h d) y x -> b h (y x) d -> b (y x) (h d) -> b (h d) y x, as einops spells it."""

    def trap(self, x: Tensor) -> Tensor:
        b, c, y, x_ = x.shape
        z = torch.reshape(x, (b, 2, 4, y, x_))
        z = z.permute((0, 1, 3, 4, 2)).reshape((b, 2, y * x_, 4))
        z = z.permute((0, 2, 1, 3)).reshape((b, y * x_, 8))
        return z.reshape((b, y, x_, c)).permute((0, 3, 1, 2))


@family.case(image(), {"conv1.weight:0": 8, "conv2.weight:1": 8})
class ThreeWaySplit(Sandwich):
    """A width of 8 seen as 2 by 2 by 2 and turned inside out."""

    def trap(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        return x.view(b, 2, 2, 2, h, w).permute(0, 3, 2, 1, 4, 5).reshape(b, 8, h, w)


@family.case(image(), {"conv1.weight:0": (8, 8), "merge.weight:1": (32, 8)})
class PatchMerging(nn.Module):
    """Four strided pictures joined along the channels, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.merge = nn.Linear(32, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).permute(0, 2, 3, 1)
        corners = [x[..., 0::2, 0::2, :], x[..., 1::2, 0::2, :], x[..., 0::2, 1::2, :], x[..., 1::2, 1::2, :]]
        return self.merge(torch.cat(corners, -1))


@family.case(image(), {"conv1.weight:0": (8, 8)})
class UnfoldAsConvolution(nn.Module):
    """im2col and a matrix product with the kernel as a matrix: each channel is 9 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.weight = nn.Parameter(torch.randn(4, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        columns = F.unfold(x, 3, padding=1)
        return (self.weight.view(4, -1) @ columns).view(-1, 4, *x.shape[2:])


@family.case(image())
class UnfoldAndFold(Sandwich):
    """fold adds what unfold has copied."""

    def trap(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, kernel_size=2, stride=1)
        return F.fold(torch.tanh(columns), output_size=(6, 6), kernel_size=2, stride=1)


@family.case(image())
class UnfoldChannels(Sandwich):
    """Overlapping windows over the channels: one channel stands in two windows."""

    seen = 12

    def trap(self, x: Tensor) -> Tensor:
        return x.unfold(1, 4, 2).permute(0, 1, 4, 2, 3).flatten(1, 2)


@family.case(image(), {"conv1.weight:0": (8, 8), "fc.weight:1": (32, 8)})
class UnfoldPatches(nn.Module):
    """Patches cut with Tensor.unfold, channels and pixels flattened into one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).unfold(2, 2, 2).unfold(3, 2, 2)
        b, c, h, w, p, q = x.shape
        return self.fc(x.permute(0, 2, 3, 1, 4, 5).reshape(b, h * w, c * p * q))


@family.case(image(), PRUNABLE)
class SqueezeAndBack(Sandwich):
    """Dimensions that come and go move the channel dimension."""

    def trap(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)
        return x * pooled[:, :, None, None] + pooled.unsqueeze(0).transpose(0, 1).transpose(1, 2).unsqueeze(-1)


@family.case(image(), PRUNABLE)
class ExpandLiteral(nn.Module):
    """A one-channel map is expanded to a literal width and multiplies the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.map = conv(3, 1)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x) * torch.sigmoid(self.map(x)).expand(-1, 8, -1, -1))


@family.case(image(), PRUNABLE)
class ExpandAs(Sandwich):
    """Pooled channels expanded back in three spellings."""

    def trap(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        b, c, h, w = x.size()
        return x * pooled.expand_as(x) + pooled.expand(b, c, h, w) + torch.broadcast_to(pooled, (b, 8, h, w))


@family.case(image(), PRUNABLE)
class MovedDims(Sandwich):
    """movedim, swapaxes, mT and negative dims all move the channels about."""

    def trap(self, x: Tensor) -> Tensor:
        x = torch.movedim(x, 1, -1).swapaxes(1, 2)
        x = x.mT.mT.movedim(-1, 0).transpose(0, 1)
        return x.permute(0, 1, -1, -2)


@family.case(image(), PRUNABLE)
class Unflatten(Sandwich):
    """A flattened tensor unflattened with a literal width."""

    def trap(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2).unflatten(1, (8, 6)).contiguous().clone()


@family.case(image(3, 4), {"conv1.weight:0": (8, 8)})
class MaxUnpool(Sandwich):
    """Pooling with indices and back: the indices are cut along the channels too."""

    def trap(self, x: Tensor) -> Tensor:
        y, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y, places, 2)


class SpelledOut(Sandwich):
    """``conv1 -> function -> conv2`` with as many channels as the function leaves."""

    def __init__(self, function: Callable[[Tensor], Tensor], seen: int) -> None:
        self.seen = seen
        super().__init__()
        self.function = function

    def trap(self, x: Tensor) -> Tensor:
        return self.function(x)


for _name, (_seen, _spelling, _expect, _trap) in {
    "keywords": (
        8,
        lambda x: torch.transpose(input=F.relu(input=torch.permute(input=x, dims=(0, 2, 1, 3))), dim0=2, dim1=1),
        PRUNABLE,
        "everything by keyword, the input too",
    ),
    "more_keywords": (
        8,
        lambda x: F.avg_pool2d(input=F.pad(input=x, pad=(0, 0, 1, 1)), kernel_size=3, stride=1),
        PRUNABLE,
        "pools and pads by keyword",
    ),
    "flatten_keywords": (
        8,
        lambda x: torch.reshape(input=torch.flatten(input=x, start_dim=2), shape=(x.size(dim=0), 8, 6, -1)),
        PRUNABLE,
        "views by keyword",
    ),
    "cat_keywords": (16, lambda x: torch.cat(tensors=(x, x), axis=1), {"conv2.weight:1": (16, 8)}, "cat by keyword"),
    "split_keywords": (
        8,
        lambda x: torch.cat(torch.split(tensor=x, split_size_or_sections=[3, 5], dim=1), dim=1),
        PRUNABLE,
        "split by keyword, its tuple joined whole",
    ),
    "index_keywords": (
        2,
        lambda x: torch.index_select(input=x, dim=-3, index=torch.tensor([6, 1])),
        {"conv2.weight:1": 2},
        "index_select by keyword, dim from the end",
    ),
    "chunks_reversed": (8, lambda x: torch.cat(x.chunk(4, 1)[::-1], 1), {}, "a slice of the tuple of chunks"),
    "chunks_in_part": (4, lambda x: torch.cat(x.chunk(4, 1)[1:3], 1), {}, "part of the tuple of chunks"),
    "index_moves_to_front": (
        3,
        lambda x: x[:, [5, 0, 2], :, [1, 1, 1]].permute(1, 0, 2).unsqueeze(-1),
        {},
        "two lists apart from each other move what they pick to the front",
    ),
    "index_by_two_lists": (
        3,
        lambda x: x[:, [5, 0, 2], [1, 1, 4]].unsqueeze(2),
        {},
        "channels and rows in pairs",
    ),
    "pad_to_a_width": (12, lambda x: F.pad(x, (0, 0, 0, 0, 0, 12 - x.shape[1])), {}, "padded up to a fixed width"),
    "repeat_to_a_width": (16, lambda x: x.repeat(1, 16 // x.shape[1], 1, 1), {}, "repeated up to a fixed width"),
    "cut_to_a_share": (6, lambda x: x[:, : -(x.shape[1] // 4)], {}, "a quarter of the width is cut off at the end"),
    "cut_to_an_int": (4, lambda x: x[:, : int(x.shape[1] * 0.5)], {}, "half of the width as an int of a product"),
    "split_by_share": (8, lambda x: torch.cat(torch.split(x, x.shape[1] // 2, dim=1)[::-1], 1), {}, "halves by size"),
    "scaled_by_math": (8, lambda x: x / math.sqrt(x.size(1)), PRUNABLE, "math.sqrt of the width: the number stays"),
    "repeat_one_map": (8, lambda x: x * x.sum(1, keepdim=True).repeat(1, 8, 1, 1), {}, "one map repeated 8 times"),
    "roll_flat": (8, lambda x: torch.roll(x, 1), {}, "a roll without dimensions rolls the flattened tensor"),
    "roll_backwards": (8, lambda x: x.roll(-11, 1), {}, "rolled backwards by more than the width"),
    "roll_two_dims": (8, lambda x: x.roll((3, 1), (1, 2)), {}, "rolled over channels and rows at once"),
    "rotated": (8, lambda x: torch.rot90(x, 1, (2, 3)), PRUNABLE, "rotated in space"),
    "rotated_through_channels": (6, lambda x: torch.rot90(x, 1, (1, 2)), {}, "rotated from channels into rows"),
    "reinterpreted": (6, lambda x: x.reshape(x.shape[0], 6, 8, 6), {}, "rows and channels reinterpreted, not moved"),
    "diagonal": (
        8,
        lambda x: torch.diagonal(x, dim1=2, dim2=3).unsqueeze(-1),
        PRUNABLE,
        "diagonals of pictures",
    ),
    "diagonal_through_channels": (
        6,
        lambda x: torch.diagonal(x, dim1=1, dim2=2).permute(0, 2, 1).unsqueeze(-1),
        {},
        "a diagonal through channels and rows takes one pixel row of each channel",
    ),
    "triangle": (8, lambda x: x.tril() + torch.triu(x, 1), {}, "the triangles of each picture"),
    "triangle_of_channels": (
        8,
        lambda x: x.transpose(1, 2).tril().transpose(1, 2),
        {},
        "rows and channels",
    ),
    "meshed": (
        8,
        lambda x: x.movedim((1, 2), (2, 1)).contiguous().movedim(1, 2),
        PRUNABLE,
        "two dimensions moved",
    ),
    "stacked_and_indexed": (8, lambda x: torch.stack([x, x * 2, x * 3], 1)[:, 1], PRUNABLE, "one of a stack"),
    "interleaved_by_stack": (
        16,
        lambda x: torch.stack((x[:, ::2], x[:, 1::2]), 2).reshape(x.shape[0], -1, *x.shape[2:]).repeat(1, 2, 1, 1),
        {},
        "channels taken apart, stacked together and repeated",
    ),
    "hsplit": (8, lambda x: torch.cat(torch.hsplit(x, (3,))[::-1], 1), {}, "hsplit cuts channels at places"),
    "squeezed": (8, lambda x: x.unsqueeze(1).squeeze().reshape(x.shape[0], -1, 6, 6), {}, "squeeze of all ones"),
    "take_along": (
        8,
        lambda x: torch.take_along_dim(x, torch.arange(7, -1, -1).view(1, 8, 1, 1), 1),
        {},
        "channels taken by a constant index tensor with dimensions",
    ),
    "masked_select_of_space": (8, lambda x: x[:, :, torch.arange(6) > 2], PRUNABLE, "rows by a constant condition"),
    "copies_in_batch": (
        8,
        lambda x: x.unsqueeze(0).expand(2, -1, -1, -1, -1).flatten(0, 1),
        PRUNABLE,
        "samples repeated",
    ),
}.items():
    family.add(
        f"spelled_{_name}",
        lambda spelling=_spelling, seen=_seen: SpelledOut(spelling, seen),
        image(),
        _trap,
        _expect,
    )


class RowsInLine(Sandwich):
    """The rows of all channels in one line, then something that counts positions along it."""

    def __init__(self, function: Callable[[Tensor], Tensor], seen: int) -> None:
        self.seen = seen
        super().__init__()
        self.function = function

    def trap(self, x: Tensor) -> Tensor:
        return self.function(x.flatten(1, 2)).unflatten(1, (self.seen, -1))


for _name, (_seen, _line, _trap) in {
    "cropped": (
        8,
        lambda y: F.pad(y, (0, 0, 0, 24 - y.shape[1])),
        "24 rows are half of the channels at one size only",
    ),
    "cut_off": (1, lambda y: F.pad(y, (0, 0, 0, -6)), "six rows are the last channel of one image size only"),
    "reflected": (
        1,
        lambda y: F.pad(y.transpose(1, 2), (6, 0), mode="reflect").transpose(1, 2),
        "six rows are one channel at one image size only",
    ),
    "rolled": (8, lambda y: y.roll(6, 1), "six rows are one channel at one image size only"),
    "split": (
        8,
        lambda y: torch.cat(y.split(24, 1)[::-1], 1),
        "24 rows are half of the channels at one size only",
    ),
    "overwritten": (8, lambda y: _overwritten(y), "six rows are one channel at one image size only"),
}.items():
    family.add(
        f"rows_in_line_{_name}",
        lambda line=_line, seen=_seen: RowsInLine(line, seen),
        image(),
        _trap,
        {"conv1.weight:0": 0},
    )


def _overwritten(line: Tensor) -> Tensor:
    line[:, :6] = 0.0
    return line


family.add(
    "rows_in_line_extended",
    lambda: RowsInLine(lambda y: F.pad(y, (0, 0, 0, 6)).mean(1, keepdim=True), 1),
    image(),
    "a given number of rows is added behind the last channel at every image size",
    {"conv1.weight:0": 8},
    one_size=True,
)


@family.case(image())
class ShapesOfAnother(nn.Module):
    """Sizes are read from another tensor than the one they are used for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 12)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, y = self.conv1(x), self.side(x)
        y = y[:, : x.shape[1]]
        flat = x.view(y.shape[0], y.shape[1], -1) * y.reshape(x.shape[0], x.shape[1], -1)
        return self.conv2(flat.view(y.shape))


@family.case(image(), PRUNABLE)
class GridOfList(Sandwich):
    """A grid of coordinates made from a list of ranges, as a map to multiply with."""

    def trap(self, x: Tensor) -> Tensor:
        rows, columns = torch.meshgrid([torch.arange(x.shape[2]), torch.arange(x.shape[3])], indexing="ij")
        return x * (rows + 2 * columns).to(x.dtype)


@family.case(image(), PRUNABLE)
class OneHotRows(Sandwich):
    """Class numbers become rows of zeros and ones, which mix pixels and no channels."""

    def trap(self, x: Tensor) -> Tensor:
        order = F.one_hot(torch.arange(x.shape[3]) // 2, x.shape[3]).to(x.dtype)
        return x @ order


@family.case(image(), PRUNABLE)
class PaddedWithLeast(Sandwich):
    """A maximum over windows does not see a border of minus infinity: zeros stay zeros, as in TensorFlow's padding."""

    def trap(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-float("inf")), 3, 2)


@family.case(image(), PRUNABLE)
class PaddedWithLeastModule(Sandwich):
    """The same with modules."""

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.pool = nn.ConstantPad2d((1, 1, 1, 1), -float("inf")), nn.MaxPool2d(3, 1)

    def trap(self, x: Tensor) -> Tensor:
        return self.pool(self.pad(x))


@family.case(image(), PINNED)
class PaddedWithLittle(Sandwich):
    """A border of a finite number is what the maximum of a dropped channel is there."""

    def trap(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 2, 0, 2), value=0.5), 2)


@family.case(image(), PINNED)
class PaddedWithLeastThenChanged(Sandwich):
    """The padded tensor is changed in place before the maximum is taken: zeros are zeros no more."""

    def trap(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 1, 0, 1), value=-float("inf"))
        padded += 1
        return F.max_pool2d(padded, 3, 2)


@family.case(image(), PRUNABLE)
class TensorOfSizes(Sandwich):
    """Numbers read from shapes become tensors: the width counts all channels, also the ones that are cut."""

    def trap(self, x: Tensor) -> Tensor:
        scale = torch.sqrt(torch.tensor(x.shape[1], dtype=x.dtype))
        steps = torch.tensor([x.shape[2], x.shape[3]], dtype=x.dtype)
        return x / scale * steps.sum()
