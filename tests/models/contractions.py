"""Nets whose difficulty is a convolution, a matrix product or another layer that makes new channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.models.case import PRUNABLE, Expected, Family, Sandwich, conv, image, tokens, vectors, words

family = Family()

CHAIN: dict[str, Expected] = {"0.weight:0": (8, 8), "0.bias:0": (8, 8), "1.weight:1": (8, 8)}


# ------------------------------------------------------------------------------------------------------- convolutions


@family.case(image(), {"conv1.weight:0": (8, 8), "side.weight:0": (8, 8), "up.weight:0": (16, 16), "up.weight:1": 6})
class TransposedAfterConcat(nn.Module):
    """A transposed convolution has its inputs first and its outputs second; its input is a concat."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 8), conv(3, 8)
        self.up = nn.ConvTranspose2d(16, 6, 3, stride=2, output_padding=1)
        self.conv2 = conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.up(torch.cat([self.conv1(x), self.side(x)], 1)))


@family.case(image(), {"picture:1": (8, 8), "over.weight:1": (8, 8), "over.weight:0": (6, 6), "conv2.weight:1": (6, 6)})
class LearnedPicture(nn.Module):
    """A parameter is convolved: its channels are produced by itself, and only cut in the weight that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.randn(1, 8, 6, 6))
        self.over, self.conv1, self.conv2 = conv(8, 6), conv(3, 6), conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2((self.over(self.picture) + self.conv1(x)).relu())


@family.case(image(), {"conv1.weight:0": 8, "up.weight:0": 8, "conv2.weight:1": 12})
class TransposedGrouped(Sandwich):
    """A transposed convolution in groups: output channel j belongs to group j // 3, not to column j."""

    seen = 12

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4)

    def trap(self, x: Tensor) -> Tensor:
        return self.up(x)


@family.case(image(), PRUNABLE | {"up.weight:0": (8, 8), "up.bias:0": (8, 8)})
class TransposedDepthwise(Sandwich):
    """A depthwise transposed convolution ties its input to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)

    def trap(self, x: Tensor) -> Tensor:
        return self.up(x)


@family.case(image(), {"conv1.weight:0": 8, "grouped.weight:0": 12, "conv2.weight:1": 12})
class Grouped(Sandwich):
    """A grouped convolution must stay rectangular: as many channels in every group, or whole groups."""

    seen = 12

    def __init__(self) -> None:
        super().__init__()
        self.grouped = conv(8, 12, groups=4)

    def trap(self, x: Tensor) -> Tensor:
        return self.grouped(x)


@family.case(image(), {"conv1.weight:0": 8, "first.weight:0": 8, "second.weight:0": 8})
class GroupedTwice(Sandwich):
    """Two grouped convolutions in a row with different numbers of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(8, 8, groups=4, bias=False)
        self.second = conv(8, 8, groups=2)

    def trap(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


@family.case(image(), {"stem.weight:0": (8, 8), "conv1.weight:0": 8, "grouped.weight:0": 8, "conv2.weight:0": (8, 8)})
class ResNeXtBlock(nn.Module):
    """A grouped bottleneck inside a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.conv1 = conv(8, 8, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.grouped = conv(8, 8, groups=4, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.conv2 = conv(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.grouped(y)))
        x = F.relu(self.conv2(y) + x)
        return self.head(x.mean((2, 3)))


@family.case(image())
class GroupedOverConcat(nn.Module):
    """The groups of a convolution do not end where the parts of its input do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.side = conv(3, 5), conv(3, 7)
        self.grouped = conv(12, 6, groups=3)
        self.conv2 = conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.grouped(torch.cat([self.conv1(x), self.side(x)], 1)))


@family.case(image(4))
class GroupedOnImage(nn.Module):
    """A grouped convolution right on the input: its groups cannot lose input channels."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = conv(4, 8, groups=2)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.grouped(x)))


@family.case(image())
class DepthwiseOnImage(nn.Module):
    """Depthwise with multiplier 4 on the image: no group can go, some of its outputs can."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = conv(3, 12, groups=3)
        self.conv2 = conv(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.depthwise(x))


@family.case(image(), {"conv1.weight:0": (8, 8), "depthwise.weight:0": 16, "conv2.weight:1": 16})
class DepthwiseMultiplier(Sandwich):
    """Depthwise with multiplier 2: outputs 2i and 2i + 1 belong to input i."""

    seen = 16

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = conv(8, 16, groups=8)

    def trap(self, x: Tensor) -> Tensor:
        return self.depthwise(x)


@family.case(
    image(),
    {"stem.weight:0": (8, 8), "expand.0.weight:0": (16, 16), "depthwise.0.weight:0": (16, 16), "head.weight:1": 8},
)
class InvertedResidual(nn.Module):
    """A MobileNetV2 block: the depthwise layer ties the expanded width to itself, the addition ties in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.expand = nn.Sequential(conv(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True))
        self.depthwise = nn.Sequential(conv(16, 16, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True))
        self.project = nn.Sequential(conv(16, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(self.expand(x)))
        return self.head(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


@family.case(image(), {"conv1.weight:0": (8, 8), "one.weight:1": (8, 8), "spread.weight:0": (6, 6)})
class ThroughOneChannel(nn.Module):
    """A convolution with a single output channel, then one with a single input channel: neither is depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.one, self.spread, self.conv2 = conv(3, 8), conv(8, 1), conv(1, 6), conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.spread(F.relu(self.one(self.conv1(x)))))


@family.case(image(1), {"conv1.weight:0": (8, 8), "conv1.weight:1": 0, "conv2.weight:1": (8, 8)})
class OneChannelImage(nn.Module):
    """On a grey image one group and as many groups as inputs are the same thing: still no depthwise layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(1, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


@family.case(image(3, 8), PRUNABLE)
class Strided(nn.Module):
    """Strides, dilation, padding by name, uneven kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, (1, 3), padding="same", dilation=(1, 2))
        self.conv2 = nn.Conv2d(8, 4, (3, 2), stride=(2, 1), padding="valid")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


family.add(
    "conv1d",
    lambda: nn.Sequential(nn.Conv1d(6, 8, 3), nn.Conv1d(8, 4, 2, bias=False)),
    tokens(7, 6),
    "One-dimensional convolutions.",
    CHAIN,
)
family.add(
    "conv3d",
    lambda: nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.Conv3d(8, 4, (1, 2, 3))),
    lambda batch: torch.randn(batch, 2, 4, 4, 4, dtype=torch.float64),
    "Three-dimensional convolutions.",
    CHAIN,
)
family.add(
    "transposed1d",
    lambda: nn.Sequential(nn.ConvTranspose1d(6, 8, 3), nn.Conv1d(8, 4, 2)),
    tokens(7, 6),
    "A one-dimensional transposed convolution: rows of the weight are inputs.",
    {"0.weight:1": (8, 8), "0.bias:0": (8, 8), "0.weight:0": 0, "1.weight:1": (8, 8)},
)
family.add(
    "transposed3d",
    lambda: nn.Sequential(nn.Conv3d(2, 8, 2), nn.ConvTranspose3d(8, 4, 2, stride=2)),
    lambda batch: torch.randn(batch, 2, 4, 4, 4, dtype=torch.float64),
    "A three-dimensional transposed convolution.",
    {"0.weight:0": (8, 8), "1.weight:0": (8, 8), "1.weight:1": 0},
)
family.add(
    "linear_chain",
    lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)),
    vectors(),
    "Two linear layers: the least there is.",
    {"0.weight:0": (8, 8), "0.weight:1": 0, "2.weight:1": (8, 8), "2.weight:0": 0},
)
family.add(
    "single_layer",
    lambda: nn.Sequential(conv(3, 4), nn.ReLU()),
    image(),
    "Nothing can be pruned between an input and an output: no groups, and still a program.",
    {"0.weight:0": 0, "0.weight:1": 0, "0.bias:0": 0},
)


@family.case(image(), PRUNABLE)
class FunctionalConvolution(nn.Module):
    """A convolution whose weight and bias are bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.weight = nn.Parameter(torch.zeros(6, 8, 3, 3))
        self.bias = nn.Parameter(torch.zeros(6))
        self.conv2 = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return F.conv2d(x, self.weight, bias=self.bias, padding=1)[:, :4] + self.conv2(x)


@family.case(image())
class StandardisedWeight(nn.Module):
    """Weight standardisation: the kernel's mean runs over input channels, so cutting those is not free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.weight = nn.Parameter(torch.zeros(6, 8, 3, 3))
        self.bias = nn.Parameter(torch.zeros(6))
        self.conv2 = conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        var = self.weight.var((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (var + 1e-5).sqrt()
        return self.conv2(F.conv2d(self.conv1(x), weight, self.bias, padding=1))


@family.case(image())
class WeightNorm(nn.Module):
    """weight_norm keeps a direction and a length a row; the rows are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = parametrizations.weight_norm(conv(3, 8))
        self.conv2 = parametrizations.weight_norm(conv(8, 6))
        self.conv3 = conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))


@family.case(tokens())
class MaskedWeight(nn.Module):
    """A linear layer whose weight is multiplied by a fixed pattern."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.weight = nn.Parameter(torch.zeros(7, 8))
        self.register_buffer("pattern", torch.ones(7, 8).tril())
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.linear(self.fc1(x), self.weight * self.pattern))


@family.case(vectors())
class SigmoidTimesComputedWeight(nn.Module):
    """Dropped channels are 0.5 behind the sigmoid, and it is the computed weight that makes their products zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.weight = nn.Parameter(torch.randn(5, 8))
        self.scale = nn.Parameter(torch.randn(5))
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.linear(torch.sigmoid(self.fc1(x)), self.weight * self.scale[:, None]))


@family.case(tokens())
class JoinedWeights(nn.Module):
    """Two parameters are joined to one weight before the product."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.upper, self.lower = nn.Parameter(torch.zeros(3, 8)), nn.Parameter(torch.zeros(4, 8))
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(F.linear(self.fc1(x), torch.cat([self.upper, self.lower]))))


@family.case(tokens())
class PredictedWeights(nn.Module):
    """A layer predicts the weights of another: its outputs are a matrix, entry by entry."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 4)
        self.predict = nn.Linear(6, 12)
        self.fc2 = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.predict(x.mean(1)).view(-1, 4, 3)
        return self.fc2(F.relu(torch.bmm(self.fc1(x), weight)))


@family.case(image())
class WeightPerSample(nn.Module):
    """Dynamic convolution: the batch is folded into the groups, and each sample has its own kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 4)
        self.mix = nn.Linear(4, 2)
        self.bank = nn.Parameter(torch.zeros(2, 5, 4, 3, 3))
        self.conv2 = conv(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        b, c, h, w = x.shape
        share = self.mix(x.mean((2, 3))).softmax(-1)
        weight = (share @ self.bank.flatten(1)).view(b * 5, c, 3, 3)
        y = F.conv2d(x.reshape(1, b * c, h, w), weight, padding=1, groups=b)
        return self.conv2(y.view(b, 5, h, w))


# ---------------------------------------------------------------------------------------------------- matrix products


@family.case(image(), {"conv1.weight:0": (8, 8), "fc.weight:1": (8, 8), "fc.weight:0": (7, 7), "back.weight:1": (7, 7)})
class LinearChannelsLast(nn.Module):
    """Linear layers on the last dimension of a permuted image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.fc, self.back = nn.Linear(8, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).permute(0, 2, 3, 1)
        return self.back(F.gelu(self.fc(x))).permute(0, 3, 1, 2)


@family.case(tokens(), {"fc1.weight:0": (8, 8), "weight:0": (8, 8), "weight:1": (7, 7), "fc2.weight:1": (7, 7)})
class MatmulParameter(nn.Module):
    """A bare parameter of shape (in, out) on the right of @."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.weight = nn.Parameter(torch.zeros(8, 7))
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x) @ self.weight))


@family.case(tokens(), {"fc1.weight:0": (8, 8), "weight:1": (8, 8), "weight:0": (7, 7), "fc2.weight:1": (7, 7)})
class TransposedParameter(nn.Module):
    """A parameter of shape (out, in) is transposed before the product."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.weight = nn.Parameter(torch.zeros(7, 8))
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(torch.matmul(self.fc1(x), self.weight.t())))


@family.case(tokens(), {"fc1.weight:0": (8, 8), "weight:1": (8, 8), "weight:0": (7, 7), "fc2.weight:1": (7, 7)})
class ParameterOnTheLeft(nn.Module):
    """A parameter multiplies from the left: channels are rows, tokens columns."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.weight = nn.Parameter(torch.zeros(7, 8))
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight @ self.fc1(x).transpose(-1, -2)
        return self.fc2(y.transpose(-1, -2))


@family.case(image(), {"conv1.weight:0": (8, 8), "weight:1": (8, 8), "weight:0": (7, 7), "conv2.weight:1": (7, 7)})
class EinsumParameter(nn.Module):
    """A 1 by 1 convolution spelled as einsum, with a sum over nothing and an ellipsis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.weight = nn.Parameter(torch.zeros(7, 8))
        self.conv2 = conv(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("bchw,oc->bohw", self.conv1(x), self.weight)
        return self.conv2(torch.einsum("...hw->...hw", y))


@family.case(image(), {"conv1.weight:0": (8, 8), "weight:1": (8, 8), "weight:0": (6, 6), "conv2.weight:1": (6, 6)})
class EinsumOfNumbers(nn.Module):
    """einsum with lists of numbers instead of letters; small ones come first where no result is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(6, 4)
        self.weight = nn.Parameter(torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum(self.conv1(x), [0, 40, 30, 31], self.weight, [4, 40])
        return self.conv2(torch.einsum(y, [0, 1, 30, 31], y.mT, [0, 1, 31, 32], [0, 1, 30, 32]))


@family.case(tokens(), {"a.weight:0": (8, 8), "b.weight:0": (8, 8), "fc.weight:1": 5})
class EinsumOfTwo(nn.Module):
    """An einsum contracts the channels of two branches: they are tied, and gone afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(6, 8)
        self.squeeze = nn.Linear(5, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.squeeze(torch.einsum("btc,bsc->bts", self.a(x), self.b(x)))))


@family.case(tokens(), {"a.weight:0": (8, 8), "b.weight:0": (8, 8)})
class BatchedProducts(nn.Module):
    """bmm and baddbmm between branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        similarity = torch.bmm(self.a(x), self.b(x).transpose(1, 2))
        value = self.c(x)
        return self.fc(torch.baddbmm(value, similarity, value, alpha=0.5))


@family.case(vectors())
class MatrixProductWithSum(nn.Module):
    """addmm adds a bare bias to a product with a bare matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.weight, self.bias = nn.Parameter(torch.zeros(8, 7)), nn.Parameter(torch.zeros(7))
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(torch.addmm(self.bias, self.fc1(x), self.weight)))


@family.case(vectors(), {"a.weight:0": (8, 8), "b.weight:0": (7, 7), "pair.weight:1": (8, 8), "pair.weight:2": (7, 7)})
class Bilinear(nn.Module):
    """A bilinear layer has two input dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(6, 7)
        self.pair = nn.Bilinear(8, 7, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pair(self.a(x), self.b(x)))


@family.case(image())
class Correlation(nn.Module):
    """One branch is the kernel of a depthwise convolution over the other, as in a siamese tracker."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.kernel = conv(3, 8), conv(3, 8)
        self.conv2 = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel(x[:, :, :3, :3])
        x = self.conv1(x)
        b, c, h, w = x.shape
        y = F.conv2d(x.reshape(1, b * c, h, w), kernel.reshape(b * c, 1, 3, 3), padding=1, groups=b * c)
        return self.conv2(y.reshape(b, c, h, w))


# ---------------------------------------------------------------------------------------------- embeddings, recurrence


@family.case(words(), {"embedding.weight:1": (8, 8), "embedding.weight:0": 0, "fc1.weight:1": (8, 8)})
class Embedding(nn.Module):
    """The columns of an embedding are channels, its rows are words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8, padding_idx=0)
        self.fc1, self.fc2 = nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(self.embedding(x)).mean(1)))


@family.case(words())
class EmbeddingBag(nn.Module):
    """An embedding that averages its words itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(11, 8, mode="mean")
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.embedding(x))


@family.case(words(), {"embedding.weight:1": (8, 8), "hidden.weight:0": (8, 8), "embedding.weight:0": 0})
class TiedEmbedding(nn.Module):
    """The output layer is the embedding itself: the width can shrink, the vocabulary cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.hidden = nn.Linear(8, 8)
        self.output = nn.Linear(8, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        return self.output(x + F.relu(self.hidden(x)))


def _recurrent(kind: type[nn.RNNBase], **options: bool) -> nn.Module:
    class AfterConvolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = conv(3, 8)
            self.recurrent = kind(8, 5, batch_first=True, **options)
            self.fc = nn.Linear(10 if options.get("bidirectional") else 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv1(x)).mean(2).permute(0, 2, 1)
            x = self.recurrent(x)[0]
            return self.fc(x[:, -1])

    return AfterConvolution()


for _kind in (nn.LSTM, nn.GRU, nn.RNN):
    for _both in (False, True):
        family.add(
            f"{_kind.__name__.lower()}{'_bidirectional' if _both else ''}_after_cnn",
            lambda kind=_kind, both=_both: _recurrent(kind, bidirectional=both),
            image(),
            "A recurrent layer reads convolution channels: its input side is cut, or pinned with a reason.",
        )


@family.case(tokens())
class RecurrentState(nn.Module):
    """The last state of a recurrent layer with two layers is used, not its output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.recurrent = nn.GRU(8, 5, num_layers=2, batch_first=True)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.recurrent(self.fc1(x))
        return self.fc2(state[-1])


@family.case(tokens())
class RecurrentCell(nn.Module):
    """A GRU cell called once for each token in a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.cell = nn.GRUCell(8, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        state = x.new_zeros(x.shape[0], 5)
        for step in range(3):
            state = self.cell(x[:, step], state)
        return self.fc2(state)
