"""Nets whose difficulty is attention: heads, fused projections, masks, and what lies between them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.case import Expected, Family, conv, image, tokens, words

family = Family()

WIDTH = 8
HEADS = 2

FUSED: dict[str, Expected] = {"qkv.weight:0": 24, "qkv.bias:0": 24, "proj.weight:1": 8, "stem.weight:0": (8, 8)}
SEPARATE: dict[str, Expected] = {
    "q.weight:0": 8,
    "k.weight:0": 8,
    "v.weight:0": 8,
    "proj.weight:1": 8,
    "stem.weight:0": (8, 8),
}


class Fused(nn.Module):
    """Self-attention in a residual stream, with one layer for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.proj(self.attend(x))
        return self.head(x.mean(1))


class Separate(nn.Module):
    """Self-attention in a residual stream, with three layers for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.proj(self.attend(x, self.q(x), self.k(x), self.v(x)))
        return self.head(x[:, 0])


@family.case(tokens(), FUSED)
class FusedUnbind(Fused):
    """timm's spelling: reshape to (3, heads, d), permute, unbind."""

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        share = ((q * (c // HEADS) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        return (share @ v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens())
class HeadsOfOne(Fused):
    """As many heads as channels: a narrower stream divided by the number of heads is nothing."""

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, WIDTH, c // WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        return ((q @ k.mT).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), FUSED)
class FusedIndexed(Fused):
    """Swin's spelling: query, key and value by index, the literal head width in the view."""

    def attend(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, HEADS, 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        share = F.softmax(q.matmul(k.transpose(-2, -1)) * 0.5, dim=-1)
        return share.matmul(v).transpose(1, 2).reshape(x.size(0), -1, WIDTH)


@family.case(tokens(), FUSED)
class FusedChunk(Fused):
    """nanoGPT's spelling: split by the width, heads afterwards, scaled_dot_product_attention with a causal mask."""

    def attend(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.qkv(x).split(WIDTH, dim=2)
        q = q.view(b, t, HEADS, c // HEADS).transpose(1, 2)
        k = k.view(b, t, HEADS, c // HEADS).transpose(1, 2)
        v = v.view(b, t, HEADS, c // HEADS).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).contiguous().view(b, t, c)


@family.case(tokens(), {"qkv.weight:0": 24, "proj.weight:1": 8})
class FusedByHead(Fused):
    """GPT-NeoX's spelling: heads first, then query, key and value within each head."""

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).view(b, n, HEADS, 3 * 4).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)
        y = torch.softmax(q @ k.mT / 2.0, -1) @ v
        return y.permute(0, 2, 1, 3).flatten(2)


@family.case(tokens(), SEPARATE)
class SeparateHeads(Separate):
    """Three layers, heads by view(-1), a mask from a buffer of token places."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("causal", torch.ones(1, 1, 5, 5).tril() == 0)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n = x.shape[0], x.shape[1]
        q, k, v = (y.view(b, n, HEADS, -1).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(2, 3)) * 0.5
        share = scores.masked_fill(self.causal, float("-inf")).softmax(-1)
        return (share @ v).transpose(1, 2).reshape(b, n, -1)


@family.case(tokens(), SEPARATE)
class ScaledByHeadWidth(Separate):
    """The scale is computed from the head width, which shrinks: the number must stay."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, c // HEADS).transpose(1, 2) for y in (q, k, v))
        share = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)
        return (share @ v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), SEPARATE)
class ScaledDotProduct(Separate):
    """scaled_dot_product_attention takes its scale from the width of the query: it must be given the old one."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.reshape(b, n, HEADS, 4).permute(0, 2, 1, 3) for y in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3).reshape(b, n, c)


@family.case(tokens(), SEPARATE)
class SingleHead(Separate):
    """One head: no view at all, each channel of the value is free, query and key are tied."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


@family.case(tokens(), SEPARATE)
class EinsumAttention(Separate):
    """Attention spelled with einsum."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (HEADS, 4)) for y in (q, k, v))
        share = torch.einsum("bqhd,bkhd->bhqk", q, k).mul(0.5).softmax(-1)
        return torch.einsum("bhqk,bkhd->bqhd", share, v).flatten(2)


@family.case(tokens(), {"v.weight:0": 8, "proj.weight:1": 8})
class LinearAttention(Separate):
    """Efficient attention: softmax over the head width of the query and over the tokens of the key."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2) for y in (q, k, v))
        context = k.softmax(-2).transpose(-1, -2) @ v
        return (q.softmax(-1) @ context).transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), {"v.weight:0": 8})
class ChannelAttention(Separate):
    """XCA: attention between the channels of a head, queries and keys normalised over tokens, a factor a head."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4).permute(0, 2, 3, 1) for y in (q, k, v))
        share = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature).softmax(-1)
        return (share @ v).permute(0, 3, 1, 2).reshape(b, n, c)


@family.case(tokens())
class RelativePositions(Fused):
    """A table of relative positions has a column for each head: whole heads cut it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(9, HEADS))
        places = torch.arange(5)
        self.register_buffer("places", (places[:, None] - places[None, :] + 4).flatten())

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, HEADS, 4).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.places].view(5, 5, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        share = (q @ k.mT * 0.5 + bias).softmax(-1)
        return (share @ v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens())
class TalkingHeads(Separate):
    """Heads are mixed by a linear layer on the scores: its axes are heads."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(HEADS, HEADS)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2) for y in (q, k, v))
        scores = self.mix((q @ k.mT * 0.5).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens())
class SigmoidAttention(Separate):
    """Scores through a sigmoid instead of a softmax."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2) for y in (q, k, v))
        return (torch.sigmoid(q @ k.mT) @ v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens())
class NormedQueries(Separate):
    """Queries and keys pass a layer norm over the head width; its parameters are shared by all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.q_norm, self.k_norm = nn.LayerNorm(4), nn.LayerNorm(4)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4) for y in (q, k, v))
        q, k, v = (y.transpose(1, 2) for y in (self.q_norm(q), self.k_norm(k), v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), {"q.weight:0": (8, 4), "kv.weight:0": (8, 8), "proj.weight:1": (8, 4), "stem.weight:0": (8, 8)})
class MultiQuery(nn.Module):
    """All heads of the query share one key and value: broadcasting over heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 8)
        self.proj = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, c = x.shape
        q = self.q(x).view(b, n, HEADS, 4).transpose(1, 2)
        k, v = self.kv(x).unsqueeze(1).chunk(2, -1)
        y = (q @ k.transpose(-1, -2) * 0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


@family.case(tokens())
class GroupedQuery(nn.Module):
    """Four query heads share two key heads, which are repeated: a key head goes with both of its queries."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.q, self.k, self.v = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)
        self.proj = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q = self.q(x).view(b, n, 4, 2).transpose(1, 2)
        k = self.k(x).view(b, n, 2, 2).transpose(1, 2).repeat_interleave(2, dim=1)
        v = self.v(x).view(b, n, 2, 2).transpose(1, 2)
        v = v[:, :, None].expand(b, 2, 2, n, 2).reshape(b, 4, n, 2)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, 8))


ROTARY: dict[str, Expected] = {
    "q.weight:0": (8, 2),
    "k.weight:0": (8, 2),
    "v.weight:0": (8, 4),
    "proj.weight:1": (8, 4),
    "stem.weight:0": (8, 8),
}
"""One table for all heads: a pair of dimensions of every head's query and key is a unit, a dimension of its value."""


@family.case(tokens(6, 5), ROTARY)
class Rotary(Separate):
    """Rotary positions pair channel i of a head with channel i + d / 2."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1]))
        self.register_buffer("cos", torch.cos(torch.cat([angles, angles], -1)))
        self.register_buffer("sin", torch.sin(torch.cat([angles, angles], -1)))

    def angles(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cos, self.sin

    def rotate(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.angles(x)
        return x * cos + torch.cat((-second, first), dim=-1) * sin

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v)
        return y.transpose(1, 2).reshape(b, n, c)


@family.case(tokens(6, 5), ROTARY)
class RotaryByPeriods(Rotary):
    """Angles are positions divided by periods: a period of zero would make them infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("periods", torch.tensor([1.0, 10.0]))

    def angles(self, x: Tensor) -> tuple[Tensor, Tensor]:
        angles = torch.arange(x.shape[2], dtype=x.dtype)[:, None] / self.periods
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()


@family.case(tokens(6, 5), ROTARY)
class RotaryPatches(Rotary):
    """The first tokens are not rotated; a model may have none of them."""

    prefix = 0

    def rotate(self, x: Tensor) -> Tensor:
        rotated = super().rotate(x)[:, :, self.prefix :]
        return torch.cat([x[:, :, : self.prefix], rotated], dim=2)


@family.case(tokens(6, 5), ROTARY)
class RotaryBehindClassToken(RotaryPatches):
    """The class token is not rotated."""

    prefix = 1


@family.case(tokens(), SEPARATE | {"q.weight:0": (8, 2), "v.weight:0": (8, 2)})
class ScaledByInput(Separate):
    """All heads are multiplied with one value per dimension that is never cut: whole heads are the units."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        fixed = x.sum(-1)[:, :4].view(b, 1, 1, 4)
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q * fixed, k, v)
        return y.transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), SEPARATE | {"q.weight:0": (8, 2), "v.weight:0": (8, 2)})
class MixedByInput(Separate):
    """Every head is multiplied with one matrix that is never cut: whole heads are the units."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        row = x.sum(-1)[:, :4]
        fixed = (row.unsqueeze(1) * row.unsqueeze(2)).unsqueeze(1)
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q @ fixed, k, v)
        return y.transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), {"stem.weight:0": (8, 8), "token:2": (8, 8), "position:2": (8, 8), "position:1": 0})
class ClassToken(nn.Module):
    """A class token is expanded over the batch and joined in front; positions are added; only it is read in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.zeros(1, 6, WIDTH))
        self.v = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        x = x + F.scaled_dot_product_attention(x, x, self.v(x))
        return self.head(x[:, 0])


@family.case(image())
class NonLocal(nn.Module):
    """Attention over pixels with 1 by 1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.theta, self.phi, self.g = conv(8, 4, 1), conv(8, 4, 1), conv(8, 4, 1)
        self.back = conv(4, 8, 1)
        self.head = conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        theta, phi, g = self.theta(x).flatten(2), self.phi(x).flatten(2), self.g(x).flatten(2)
        share = torch.bmm(theta.transpose(1, 2), phi).softmax(-1)
        y = torch.bmm(g, share.transpose(1, 2)).view(x.shape[0], -1, *x.shape[2:])
        return self.head(x + self.back(y))


@family.case(image(3, 4), {"stem.weight:0": (8, 8), "qkv.weight:0": 24})
class ShiftedWindows(nn.Module):
    """Swin: roll, cut into windows by view and permute, attend, put together, roll back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def attend(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = torch.roll(x, shifts=(-1, -1), dims=(1, 2))
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b * (h // 2) * (w // 2), 4, c)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        x = ((q * (c // HEADS) ** -0.5) @ k.mT).softmax(-1) @ v
        x = self.proj(x.transpose(1, 2).reshape(x.size(0), 4, c))
        x = x.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(x, shifts=(1, 1), dims=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        return self.head((x + self.attend(x)).mean((1, 2)))


class SelfAttention(nn.Module):
    """nn.MultiheadAttention on itself in a residual stream."""

    def __init__(self, first: bool, weights: bool, bias: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=first, bias=bias)
        self.head = nn.Linear(WIDTH, 3)
        self.first = first
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if not self.first:
            x = x.transpose(0, 1)
        x = x + self.attention(x, x, x, need_weights=self.weights)[0]
        if not self.first:
            x = x.transpose(0, 1)
        return self.head(x.mean(1))


for _first in (True, False):
    for _weights in (True, False):
        for _bias in (True, False):
            family.add(
                f"multihead_{'batch' if _first else 'tokens'}_first"
                f"{'_weights' if _weights else ''}{'' if _bias else '_no_bias'}",
                lambda first=_first, weights=_weights, bias=_bias: SelfAttention(first, weights, bias),
                tokens(),
                "nn.MultiheadAttention is opened: heads and the stream around it are prunable, under the user's names.",
                {
                    "stem.weight:0": (8, 8),
                    "attention.in_proj_weight:0": 24,
                    "attention.in_proj_weight:1": 8,
                    "attention.out_proj.weight:0": 8,
                    "attention.out_proj.weight:1": 8,
                },
            )


@family.case(tokens())
class AttentionWeightsUsed(nn.Module):
    """The averaged attention weights are an output too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y, share = self.attention(x, x, x)
        return self.head(y), share


@family.case(tokens())
class CrossAttention(nn.Module):
    """Keys and values have widths of their own: three projections in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.keys, self.values = nn.Linear(6, WIDTH), nn.Linear(6, 5), nn.Linear(6, 7)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=5, vdim=7, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.stem(x), self.keys(x), self.values(x), need_weights=False)[0]
        return self.head(F.relu(y))


@family.case(tokens())
class MaskedMultihead(nn.Module):
    """A causal mask in a buffer, and keys hidden by a mask computed from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)
        self.register_buffer("causal", torch.ones(5, 5).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        hidden = x[:, :, 0] > 5
        x = self.stem(x)
        y = self.attention(x, x, x, key_padding_mask=hidden, attn_mask=self.causal, need_weights=False)[0]
        return self.head(x + y)


@family.case(tokens())
class BiasAndZeroAttention(nn.Module):
    """Extra learned keys and values, and a zero one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, add_bias_kv=True, add_zero_attn=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.attention(x, x, x, need_weights=False)[0])


for _norm_first in (True, False):
    family.add(
        f"transformer_encoder_layer_norm_{'first' if _norm_first else 'last'}",
        lambda norm_first=_norm_first: nn.Sequential(
            nn.Linear(6, WIDTH),
            nn.TransformerEncoderLayer(WIDTH, HEADS, 12, dropout=0.0, batch_first=True, norm_first=norm_first),
            nn.Linear(WIDTH, 3),
        ),
        tokens(),
        "A composite module of torch: opened, or pinned with a reason.",
    )


@family.case(words())
class TinyTransformer(nn.Module):
    """Embeddings, positions, two pre-norm blocks, tied output: the shape of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, WIDTH)
        self.position = nn.Embedding(5, WIDTH)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.output = nn.Linear(WIDTH, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x) + self.position(torch.arange(x.shape[1], device=x.device))
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.output(self.norm3(x))


@family.case(tokens())
class HeadsFoldedIntoBatch(Separate):
    """Heads and samples share the first dimension, as older code has it."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, 4).transpose(1, 2).reshape(b * HEADS, n, 4) for y in (q, k, v))
        y = torch.bmm(F.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.5, -1), v)
        return y.view(b, HEADS, n, 4).transpose(1, 2).reshape(b, n, c)


@family.case(tokens(), SEPARATE)
class ScaledByMath(Separate):
    """nanoGPT's scale: math.sqrt of the head width."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, c // HEADS).transpose(1, 2) for y in (q, k, v))
        share = (q @ k.transpose(-2, -1) * (1.0 / math.sqrt(k.size(-1)))).softmax(-1)
        return (share @ v).transpose(1, 2).contiguous().view(b, n, c)


@family.case(tokens())
class MaskOfSizes(Separate):
    """The causal mask is a slice of a longer buffer, cut to the number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bias", torch.tril(torch.ones(9, 9)).view(1, 1, 9, 9))

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, n, c = q.shape
        q, k, v = (y.view(b, n, HEADS, c // HEADS).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.mT * 0.5).masked_fill(self.bias[:, :, :n, :n] == 0, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)


class SharedKeyHeads(nn.Module):
    """Six query heads of width two; fewer key and value heads serve them."""

    def __init__(self, key_heads: int) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.q, self.kv = nn.Linear(WIDTH, 12), nn.Linear(WIDTH, 2 * 2 * key_heads)
        self.proj = nn.Linear(12, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q = self.q(x).unflatten(-1, (-1, 2)).transpose(1, 2)
        k, v = (t.unflatten(-1, (-1, 2)).transpose(1, 2) for t in self.kv(x).chunk(2, -1))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.head(x + self.proj(y.transpose(1, 2).flatten(2)))


family.add(
    "shared_key_heads",
    lambda: SharedKeyHeads(3),
    tokens(),
    "Two query heads share a key and a value head: all of them go together.",
    {"q.weight:0": (12, 3), "kv.weight:0": (12, 3), "proj.weight:1": (12, 3), "stem.weight:0": (8, 8)},
)
family.add(
    "one_key_head",
    lambda: SharedKeyHeads(1),
    tokens(),
    "All query heads share one key and one value head: the stream is prunable all the same.",
    {"stem.weight:0": (8, 8)},
)
