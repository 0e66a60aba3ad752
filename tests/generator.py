"""Random small nets, each drawn step by step from a source of random choices.

`draw_net(random)` needs nothing but a `random.Random`: a seed gives the same net on every machine, and hypothesis can
put its own `Random` in to shrink a net that fails. A net is a list of steps on a pool of images ``(N, C, H, W)``; each
step takes one or two values of the pool and adds one or more, so branches, skips and concats come by themselves.
``str(net)`` prints the steps as a program.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.invariants import randomise

MAX_CHANNELS = 24
MAX_ELEMENTS = 1500
MAX_STEPS = 12
LIMIT = 1e4

Function = Callable[..., Any]
Random = random_module.Random


@dataclass(frozen=True)
class Made:
    """One step before it is added: what to call it, how to compute it, its module if it has one."""

    text: str
    function: Function
    module: nn.Module | None = None
    others: tuple[int, ...] = ()
    shared: str | None = None


@dataclass(frozen=True)
class Step:
    """One line of a net: ``function(module, *values)``, whose results join the pool."""

    text: str
    function: Function
    key: str | None
    operands: tuple[int, ...]


class RandomNet(nn.Module):
    """A net made of steps; its text is its program."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.steps: list[Step] = []

    def forward(self, x: Tensor) -> Any:
        pool = [x]
        for step in self.steps:
            result = self.apply_step(step, pool)
            if step is self.steps[-1]:
                return result
            pool.extend(result if isinstance(result, tuple) else (result,))
        return pool[-1]

    def apply_step(self, step: Step, pool: Sequence[Tensor]) -> Any:
        """The result of one step on the values it names."""
        operands = [pool[index] for index in step.operands]
        return step.function(None if step.key is None else self.layers[step.key], *operands)

    def __str__(self) -> str:
        return "\n".join(
            f"{number:2d}  {step.text} <- {', '.join(f'v{index}' for index in step.operands)}"
            + (f"  [{step.key}]" if step.key else "")
            for number, step in enumerate(self.steps)
        )


# ----------------------------------------------------------------------------------------------- steps on one value

Maker = Callable[[Random, Tensor], Made | None]


def _divisor(random: Random, number: int, least: int = 1) -> int | None:
    divisors = [d for d in range(least, number + 1) if number % d == 0]
    return random.choice(divisors) if divisors else None


def _conv(random: Random, x: Tensor) -> Made:
    kernel, stride = random.choice((1, 3)), random.choice((1, 1, 2))
    width, bias = random.randint(2, 12), random.random() < 0.5
    module = nn.Conv2d(x.shape[1], width, kernel, stride, kernel // 2, bias=bias)
    return Made(f"conv({width}, kernel={kernel}, stride={stride}, bias={bias})", lambda m, v: m(v), module)


def _conv_block(random: Random, x: Tensor) -> Made:
    width = random.randint(2, 12)
    module = nn.Sequential(
        nn.Conv2d(x.shape[1], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=random.random() < 0.5),
    )
    return Made(f"conv-bn-relu({width})", lambda m, v: m(v), module)


def _grouped_conv(random: Random, x: Tensor) -> Made | None:
    groups = _divisor(random, x.shape[1], 2)
    if groups is None:
        return None
    width = groups * random.randint(1, max(1, 12 // groups))
    module = nn.Conv2d(x.shape[1], width, 3, padding=1, groups=groups, bias=random.random() < 0.5)
    return Made(f"grouped_conv({width}, groups={groups})", lambda m, v: m(v), module)


def _depthwise(random: Random, x: Tensor) -> Made:
    channels, multiplier = x.shape[1], random.choice((1, 1, 2))
    module = nn.Conv2d(channels, channels * multiplier, 3, padding=1, groups=channels, bias=random.random() < 0.5)
    return Made(f"depthwise(multiplier={multiplier})", lambda m, v: m(v), module)


def _transposed_conv(random: Random, x: Tensor) -> Made:
    groups = _divisor(random, x.shape[1]) if random.random() < 0.4 else 1
    width = (groups or 1) * random.randint(1, max(1, 8 // (groups or 1)))
    module = nn.ConvTranspose2d(x.shape[1], width, 2, stride=random.choice((1, 2)), groups=groups or 1)
    return Made(f"transposed_conv({width}, groups={groups}, stride={module.stride[0]})", lambda m, v: m(v), module)


def _norm(random: Random, x: Tensor) -> Made | None:
    channels = x.shape[1]
    affine, tracked = random.random() < 0.8, random.random() < 0.8
    kind = random.choice(("batch", "batch", "group", "instance", "layer", "layer_in_space", "rms"))
    module: nn.Module
    if kind == "batch":
        module = nn.BatchNorm2d(channels, affine=affine, track_running_stats=tracked)
    elif kind == "group":
        module = nn.GroupNorm(_divisor(random, channels) or 1, channels, affine=affine)
    elif kind == "instance":
        if x.shape[2] * x.shape[3] < 4:
            return None
        module = nn.InstanceNorm2d(channels, affine=affine, track_running_stats=not tracked)
    elif kind == "layer_in_space":
        if x.shape[2] * x.shape[3] < 4:
            return None
        module = nn.LayerNorm(list(x.shape[2:]), elementwise_affine=affine)
    else:
        module = (nn.LayerNorm if kind == "layer" else nn.RMSNorm)(channels, elementwise_affine=affine)
        return Made(f"{kind}_norm({affine})", lambda m, v: m(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), module)
    return Made(f"{kind}_norm({affine}, {tracked}, {getattr(module, 'num_groups', '')})", lambda m, v: m(v), module)


def _activation(random: Random, x: Tensor) -> Made:
    name = random.choice(
        ("relu", "silu", "gelu", "hardswish", "leaky_relu", "tanh", "elu", "prelu", "relu6", "abs", "square")
    )
    if name == "prelu":
        shared = random.random() < 0.5
        return Made(f"prelu({shared})", lambda m, v: m(v), nn.PReLU(1 if shared else x.shape[1]))
    if name == "square":
        return Made("square", lambda m, v: v**2 * 0.5)
    function = torch.abs if name == "abs" else getattr(F, name) if name != "tanh" else torch.tanh
    return Made(name, lambda m, v: function(v))


def _not_zero_at_zero(random: Random, x: Tensor) -> Made:
    name = random.choice(("sigmoid", "softplus", "cos", "plus_one", "one_minus", "clamp"))
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "sigmoid": torch.sigmoid,
        "softplus": F.softplus,
        "cos": torch.cos,
        "plus_one": lambda v: v + 1,
        "one_minus": lambda v: 1 - v,
        "clamp": lambda v: v.clamp(min=0.5),
    }
    function = functions[name]
    return Made(name, lambda m, v: function(v))


def _constant_reader(random: Random, x: Tensor) -> Made | None:
    """A layer that may take up constants, behind a function that makes some."""
    made = _not_zero_at_zero(random, x)
    width, kind = random.randint(2, 8), random.choice(("pointwise", "valid", "reflect", "linear", "padded"))
    if kind in ("valid", "reflect", "padded") and min(x.shape[2:]) < 3:
        return None
    module: nn.Module = nn.Conv2d(x.shape[1], width, 1, bias=random.random() < 0.8)
    if kind == "linear":
        linear = nn.Linear(x.shape[1], width)
        return Made(
            f"{made.text}-linear({width})", lambda m, v: m(made.function(None, v).movedim(1, -1)).movedim(-1, 1), linear
        )
    if kind != "pointwise":
        padding = 0 if kind == "valid" else 1
        mode = "reflect" if kind == "reflect" else "zeros"
        module = nn.Conv2d(x.shape[1], width, 3, padding=padding, padding_mode=mode)
    return Made(f"{made.text}-{kind}_conv({width})", lambda m, v: m(made.function(None, v)), module)


class _StandardisedConv(nn.Conv2d):
    """A convolution that standardises its weight, as ResNetV2 and NFNets do."""

    def __init__(self, inputs: int, outputs: int, spelling: str) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.spelling = spelling

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "batch_norm":
            flat = self.weight.reshape(1, len(self.weight), -1)
            weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-3).reshape_as(self.weight)
        else:
            var, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=self.spelling == "unbiased")
            weight = (self.weight - mean) * torch.rsqrt(var + 1e-3)
        return F.conv2d(x, weight, self.bias, padding=1)


def _standardised(random: Random, x: Tensor) -> Made:
    width, spelling = random.randint(2, 8), random.choice(("batch_norm", "biased", "unbiased"))
    module = _StandardisedConv(x.shape[1], width, spelling)
    return Made(f"standardised_conv({width}, {spelling})", lambda m, v: m(v), module)


def _weight_norm(random: Random, x: Tensor) -> Made:
    kind, dim = random.choice(("plain", "grouped", "depthwise", "transposed")), random.choice((0, 0, 1, -1))
    groups = {"grouped": _divisor(random, x.shape[1]) or 1, "depthwise": x.shape[1]}.get(kind, 1)
    width = groups * random.randint(1, max(1, 8 // groups))
    layer = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
    module = parametrizations.weight_norm(layer(x.shape[1], width, 3, padding=1, groups=groups), dim=dim)
    return Made(f"weight_norm({kind}, {width}, groups={groups}, dim={dim})", lambda m, v: m(v), module)


class _ByHand(nn.Module):
    """Norms over channels in plain tensor operations."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "rms":
            x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-2)
        elif self.kind == "written_out":
            centred = x - x.mean(1, keepdim=True)
            x = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-2)
        elif self.kind == "layer":
            var, mean = torch.var_mean(x, dim=1, keepdim=True, unbiased=False)
            x = (x - mean) / torch.sqrt(var + 1e-2)
        else:  # global response: Woo et al., ConvNeXt V2, CVPR 2023
            size = x.norm(dim=(2, 3), keepdim=True)
            x = x + x * (size / (size.mean(1, keepdim=True) + 1e-2))
        return x * self.weight + self.bias


def _norm_by_hand(random: Random, x: Tensor) -> Made:
    kind = random.choice(("rms", "layer", "written_out", "response"))
    return Made(f"{kind}_by_hand", lambda m, v: m(v), _ByHand(x.shape[1], kind))


class _GroupedQueries(nn.Module):
    """Attention in which several query heads share one head of keys and values."""

    def __init__(self, width: int, shared: int, times: int, head: int) -> None:
        super().__init__()
        self.shared, self.head = shared, head
        self.q = nn.Linear(width, shared * times * head)
        self.k, self.v = nn.Linear(width, shared * head), nn.Linear(width, shared * head)
        self.proj = nn.Linear(shared * times * head, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, -1, self.head).transpose(1, 2)
        k, v = (layer(x).view(b, n, self.shared, self.head).transpose(1, 2) for layer in (self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.proj(y.transpose(1, 2).flatten(2))


def _grouped_queries(random: Random, x: Tensor) -> Made | None:
    if x.shape[2] * x.shape[3] > 36:
        return None
    shared, times, head = random.randint(1, 3), random.randint(1, 3), random.randint(2, 3)
    module = _GroupedQueries(x.shape[1], shared, times, head)

    def function(m: nn.Module, v: Tensor) -> Tensor:
        return v + m(v.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(v.shape)

    return Made(f"grouped_queries({shared}, {times}, {head})", function, module)


def _squeeze_excite(random: Random, x: Tensor) -> Made:
    channels, hidden = x.shape[1], random.randint(1, 4)
    module = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
    )
    return Made(f"squeeze_excite({hidden})", lambda m, v: v * m(v), module)


def _spatial_gate(random: Random, x: Tensor) -> Made:
    module = nn.Conv2d(x.shape[1], 1, 3, padding=1)
    if random.random() < 0.7:
        return Made("times_map", lambda m, v: v * torch.sigmoid(m(v)), module)
    return Made("plus_map", lambda m, v: v + m(v), module)


class _Parameter(nn.Module):
    """A bare parameter for each channel, a fixed buffer, and a tensor that is neither."""

    def __init__(self, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.plain = torch.linspace(-1.0, 1.5, channels, dtype=torch.float64).view(-1, 1, 1)
        self.value = nn.Parameter(torch.ones(shape))
        self.register_buffer("fixed", torch.linspace(0.5, 1.5, channels).view(-1, 1, 1))


def _parameter(random: Random, x: Tensor) -> Made:
    channels = x.shape[1]
    shape = random.choice(((channels, 1, 1), (1, channels, 1, 1)))
    module = _Parameter(channels, shape)
    kinds = ("scale", "add", "scale_by_buffer", "add_buffer", "scale_by_sigmoid", "scale_by_constant", "add_constant")
    kind = random.choice(kinds)
    functions: dict[str, Function] = {
        "scale": lambda m, v: v * m.value,
        "add": lambda m, v: m.value + v,
        "scale_by_buffer": lambda m, v: v * m.fixed * m.value,
        "add_buffer": lambda m, v: v - m.fixed + m.value,
        "scale_by_sigmoid": lambda m, v: v * torch.sigmoid(m.value),
        "scale_by_constant": lambda m, v: v * m.plain,
        "add_constant": lambda m, v: v + m.plain,
    }
    return Made(f"parameter_{kind}{shape}", functions[kind], module)


def _pool(random: Random, x: Tensor) -> Made | None:
    if min(x.shape[2:]) < 2:
        return None
    kind = random.choice(("max", "avg", "adaptive", "max_padded"))
    if kind == "max":
        return Made("max_pool", lambda m, v: F.max_pool2d(v, 2))
    if kind == "avg":
        return Made("avg_pool", lambda m, v: F.avg_pool2d(v, 2, ceil_mode=True))
    if kind == "adaptive":
        return Made("adaptive_max_pool", lambda m, v: F.adaptive_max_pool2d(v, 2))
    return Made("max_pool_padded", lambda m, v: F.max_pool2d(v, 3, 1, 1))


def _resize(random: Random, x: Tensor) -> Made | None:
    if x.shape[2] > 4:
        return None
    mode = random.choice(("nearest", "bilinear"))
    return Made(f"upsample({mode})", lambda m, v: F.interpolate(v, scale_factor=2.0, mode=mode))


def _shuffle(random: Random, x: Tensor) -> Made | None:
    channels = x.shape[1]
    groups = _divisor(random, channels, 2)
    if groups is None or groups == channels:
        return None
    if random.random() < 0.5:
        return Made(f"channel_shuffle({groups})", lambda m, v: F.channel_shuffle(v, groups))
    if random.random() < 0.5:
        return Made(
            f"shuffle_by_sizes({groups})",
            lambda m, v: (
                v.view(v.shape[0], groups, v.shape[1] // groups, v.shape[2], v.shape[3])
                .transpose(1, 2)
                .reshape(v.shape)
            ),
        )
    inner = channels // groups
    return Made(
        f"shuffle_by_literals({groups}, {inner})",
        lambda m, v: v.unflatten(1, (groups, inner)).transpose(1, 2).flatten(1, 2),
    )


def _pixels(random: Random, x: Tensor) -> Made | None:
    if random.random() < 0.5 and x.shape[1] % 4 == 0 and x.shape[2] <= 4:
        return Made("pixel_shuffle", lambda m, v: F.pixel_shuffle(v, 2))
    if x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0 and x.shape[1] * 4 <= MAX_CHANNELS:
        return Made("pixel_unshuffle", lambda m, v: F.pixel_unshuffle(v, 2))
    return None


def _pad(random: Random, x: Tensor) -> Made | None:
    kind = random.choice(("channels", "channels", "ones", "space", "space_of_ones", "crop"))
    before, after = random.randint(0, 3), random.randint(0, 3)
    if kind == "channels":
        return Made(f"pad_channels({before}, {after})", lambda m, v: F.pad(v, (0, 0, 0, 0, before, after)))
    if kind == "ones":
        return Made(f"pad_channels_with_ones({before})", lambda m, v: F.pad(v, (0, 0, 0, 0, before, 0), value=1.0))
    if kind == "space" and min(x.shape[2:]) > 1:
        return Made("pad_space", lambda m, v: F.pad(v, (1, 0, 0, 1), mode="reflect"))
    if kind == "space_of_ones":
        return Made("pad_space_with_ones", lambda m, v: F.pad(v, (1, 0, 0, 1), value=1.0))
    if kind == "crop" and x.shape[1] > 2:
        return Made("crop_channels", lambda m, v: F.pad(v, (0, 0, 0, 0, -1, 0)))
    return None


class _Order(nn.Module):
    """A fixed order of channels in a buffer."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(order))


def _reorder(random: Random, x: Tensor) -> Made:
    channels = x.shape[1]
    kind = random.choice(("roll", "flip", "index", "list", "select", "roll_space", "transpose"))
    if kind == "roll":
        shift = random.randint(1, channels)
        return Made(f"roll({shift})", lambda m, v: v.roll(shift, 1))
    if kind == "flip":
        return Made("flip", lambda m, v: v.flip(1))
    if kind == "roll_space":
        return Made("roll_space", lambda m, v: torch.roll(v, (1, 1), (2, 3)))
    if kind == "transpose":
        return Made("transpose_space", lambda m, v: v.transpose(-1, -2))
    order = [random.randrange(channels) for _ in range(random.randint(1, channels))]
    if kind == "list":
        return Made(f"index({order})", lambda m, v: v[:, order])
    if kind == "select":
        return Made(f"index_select({order})", lambda m, v: torch.index_select(v, 1, m.order), _Order(order))
    return Made(f"index_by_buffer({order})", lambda m, v: v[:, m.order], _Order(order))


def _repeat(random: Random, x: Tensor) -> Made | None:
    if x.shape[1] * 2 > MAX_CHANNELS:
        return None
    if random.random() < 0.5:
        return Made("repeat", lambda m, v: v.repeat(1, 2, 1, 1))
    return Made("repeat_interleave", lambda m, v: v.repeat_interleave(2, dim=1))


def _slice(random: Random, x: Tensor) -> Made | None:
    channels = x.shape[1]
    if channels < 2:
        return None
    start, stop = sorted(random.sample(range(channels + 1), 2))
    step = random.choice((1, 1, 2))
    if random.random() < 0.3:
        return Made(f"slice({start - channels}::{step})", lambda m, v: v[:, start - channels :: step])
    return Made(f"slice({start}:{stop}:{step})", lambda m, v: v[:, start:stop:step])


def _split(random: Random, x: Tensor) -> Made | None:
    channels = x.shape[1]
    if channels < 2:
        return None
    kind = random.choice(("split", "chunk", "sections"))
    if kind == "chunk":
        parts = random.randint(2, 3)
        return Made(f"chunk({parts})", lambda m, v: tuple_of_two(v.chunk(parts, dim=1)))
    cut = random.randint(1, channels - 1)
    if kind == "sections":
        return Made(f"tensor_split({cut})", lambda m, v: tuple_of_two(torch.tensor_split(v, (cut,), dim=1)))
    return Made(
        f"split({cut}, {channels - cut})", lambda m, v: tuple_of_two(torch.split(v, [cut, channels - cut], dim=1))
    )


def tuple_of_two(pieces: Any) -> tuple[Any, Any]:
    """Both pieces, in a way that a symbolic tracer can follow."""
    return pieces[0], pieces[1]


def _halves(random: Random, x: Tensor) -> Made | None:
    if x.shape[1] % 2:
        return None
    kind = random.choice(("glu", "product", "sum_by_size", "maxout"))
    functions: dict[str, Function] = {
        "glu": lambda m, v: F.glu(v, dim=1),
        "product": lambda m, v: v.chunk(2, 1)[0] * torch.tanh(v.chunk(2, 1)[1]),
        "sum_by_size": lambda m, v: v[:, : v.shape[1] // 2] + v[:, v.shape[1] // 2 :],
        "maxout": lambda m, v: v.unflatten(1, (-1, 2)).amax(2),
    }
    return Made(f"halves_{kind}", functions[kind])


class _Attention(nn.Module):
    """Self-attention over pixels in one of four spellings."""

    def __init__(self, width: int, heads: int, spelling: str) -> None:
        super().__init__()
        self.heads, self.spelling = heads, spelling
        if spelling == "module":
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        elif spelling == "separate":
            self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
            self.proj = nn.Linear(width, width)
        else:
            self.qkv = nn.Linear(width, 3 * width)
            self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        if self.spelling == "module":
            return self.attention(x, x, x, need_weights=False)[0]
        if self.spelling == "separate":
            q, k, v = (y.view(b, n, self.heads, -1).transpose(1, 2) for y in (self.q(x), self.k(x), self.v(x)))
        else:
            qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = qkv[0], qkv[1], qkv[2]
        if self.spelling == "fused":
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


def _attention(random: Random, x: Tensor) -> Made | None:
    width = x.shape[1]
    heads = _divisor(random, width)
    if heads is None or x.shape[2] * x.shape[3] > 36:
        return None
    spelling = random.choice(("fused", "fused_by_hand", "separate", "module"))
    residual = random.random() < 0.7

    def function(m: nn.Module, v: Tensor) -> Tensor:
        y = m(v.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(v.shape)
        return v + y if residual else y

    return Made(f"attention({heads}, {spelling}, residual={residual})", function, _Attention(width, heads, spelling))


def _channels_last(random: Random, x: Tensor) -> Made:
    width, hidden = x.shape[1], random.randint(2, 8)
    module = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
    residual = random.random() < 0.5

    def function(m: nn.Module, v: Tensor) -> Tensor:
        y = m(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return v + y if residual else y

    return Made(f"channels_last_mlp({hidden}, residual={residual})", function, module)


def _along_rows(random: Random, x: Tensor) -> Made:
    bias = random.random() < 0.3
    module = nn.Linear(x.shape[3], x.shape[3], bias=bias)
    return Made(f"linear_along_rows(bias={bias})", lambda m, v: m(v), module)


def _loop(random: Random, x: Tensor) -> Made:
    times, residual = random.randint(2, 3), random.random() < 0.5
    module = nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1)

    def function(m: nn.Module, v: Tensor) -> Tensor:
        for _ in range(times):
            y = torch.tanh(m(v))
            v = v + y if residual else y
        return v

    return Made(f"loop({times}, residual={residual})", function, module)


def _bottleneck(random: Random, x: Tensor) -> Made:
    channels, hidden = x.shape[1], random.randint(2, 8)
    module = nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    inside = random.random() < 0.3
    return Made(f"bottleneck({hidden})", lambda m, v: F.relu(v + m(v)) if not inside else F.relu(m(v).add_(v)), module)


def _over_channels(random: Random, x: Tensor) -> Made:
    functions: dict[str, Function] = {
        "divided_by_sum": lambda m, v: v / (v.abs().sum(1, keepdim=True) + 1),
        "gate_by_sum": lambda m, v: v * torch.tanh(v.sum(1, keepdim=True)),
        "centred": lambda m, v: v - v.mean(1, keepdim=True),
        "softmax": lambda m, v: v.softmax(1),
        "normalize": lambda m, v: F.normalize(v, dim=1, eps=1e-2),
        "gate_by_max": lambda m, v: v * torch.sigmoid(v.amax(1, keepdim=True)),
        "gate_by_first_of_max": lambda m, v: v * torch.sigmoid(torch.max(v, 1, keepdim=True)[0]),
        "gate_by_min_values": lambda m, v: v * torch.tanh(v.min(dim=1).values).unsqueeze(1),
        "scaled_by_width": lambda m, v: v * v.shape[1] ** -0.5,
    }
    if x.shape[1] > 1:  # a single channel would be squeezed, and samples come to stand in its place
        functions["gate_by_squeezed"] = lambda m, v: v * v.mean((2, 3)).squeeze(-1)[..., None, None]
    name = random.choice(tuple(functions))
    return Made(name, functions[name])


def _in_space(random: Random, x: Tensor) -> Made:
    functions: dict[str, Function] = {
        "plus_pooled": lambda m, v: v + v.mean((2, 3), keepdim=True),
        "times_pooled": lambda m, v: v * F.adaptive_max_pool2d(v, 1).expand_as(v),
        "minus_mean": lambda m, v: v - v.mean((-1, -2), True),
        "softmax_times_value": lambda m, v: v * v.flatten(2).softmax(-1).view(v.shape),
        "cumsum": lambda m, v: v.cumsum(-1) * 0.3,
    }
    name = random.choice(tuple(functions))
    return Made(name, functions[name])


def _in_place(random: Random, x: Tensor) -> Made:
    half = max(1, x.shape[1] // 2)

    def on_a_view(m: None, v: Tensor) -> Tensor:
        v = v * 1.0
        v[:, :half].mul_(0.5)
        return v

    def shift_a_view(m: None, v: Tensor) -> Tensor:
        v = v * 1.0
        v[:, :half].add_(0.5)
        return v

    def augmented(m: None, v: Tensor) -> Tensor:
        y = v * 0.5
        y += v
        y *= 0.7
        return y.relu_()

    def relu(m: None, v: Tensor) -> Tensor:
        y = v * 1.0
        F.relu(y, inplace=True)
        return y - v

    def built_by_copies(m: None, v: Tensor) -> Tensor:
        y = torch.zeros_like(v)
        y[:, half:].copy_(v[:, half:])
        y[:, :half].add_(v[:, :half], alpha=0.5)
        return y

    def flat_view(m: None, v: Tensor) -> Tensor:
        # A view for certain: whether flatten copies depends on strides, which a convolution is free to choose.
        y = v.clone(memory_format=torch.contiguous_format)
        y.view(v.shape[0], -1).neg_()
        y.transpose(1, 2).mul_(0.5)
        return y

    step, start = random.randint(2, 3), random.randint(0, 1)

    def on_a_step(m: None, v: Tensor) -> Tensor:
        v = v * 1.0
        v[:, start::step].mul_(0.5)
        return v

    def step_replaced(m: None, v: Tensor) -> Tensor:
        v = v * 1.0
        v[:, start::step] *= 0.5
        return v

    def seen_in_a_step(m: None, v: Tensor) -> Tensor:
        v = v * 1.0
        part = v[:, start::step]
        v.mul_(0.5)
        return torch.cat([v, part], 1)

    def on_a_copy(m: None, v: Tensor) -> Tensor:
        y = (v * 1.0).permute(0, 2, 3, 1).contiguous()  # or on a view; nobody else reads what it is of
        y *= 0.5
        return y.permute(0, 3, 1, 2)

    def on_rows(m: None, v: Tensor) -> Tensor:
        y = (v * 1.0).flatten(2).transpose(1, 2).reshape(-1, v.shape[1])
        y.mul_(0.5)
        return v * torch.tanh(y.mean())

    return random.choice(
        (
            Made(f"mul_on_a_step({start}, {step})", on_a_step),
            Made(f"step_replaced({start}, {step})", step_replaced),
            Made(f"seen_in_a_step({start}, {step})", seen_in_a_step),
            Made("mul_on_a_copy", on_a_copy),
            Made("mul_on_rows", on_rows),
            Made("augmented", augmented),
            Made("mul_on_a_view", on_a_view),
            Made("add_on_a_view", shift_a_view),
            Made("relu_result_dropped", relu),
            Made("built_by_copies", built_by_copies),
            Made("through_flat_view", flat_view),
        )
    )


def _swap_roles(random: Random, x: Tensor) -> Made:
    """Channels become rows or columns, moved or reinterpreted: what is behind runs along other dimensions."""
    _, c, h, w = x.shape
    kind = random.choice(("transpose", "permute", "reinterpret", "merge", "by_size"))
    if kind == "transpose":
        return Made("channels_to_rows", lambda m, v: v.transpose(1, 2))
    if kind == "permute":
        return Made("channels_to_columns", lambda m, v: v.permute(0, 3, 2, 1))
    if kind == "reinterpret":
        return Made(f"reshape({h}, {c}, {w})", lambda m, v: v.reshape(-1, h, c, w))
    if kind == "merge":
        return Made("rows_into_channels", lambda m, v: v.flatten(1, 2).unsqueeze(2))
    return Made(
        "columns_into_channels", lambda m, v: v.permute(0, 3, 1, 2).reshape(v.size(0), v.size(3) * v.size(1), 1, -1)
    )


def _regroup(random: Random, x: Tensor) -> Made | None:
    """View the channels as a rectangle and do something along one of its sides."""
    groups = _divisor(random, x.shape[1], 2)
    if groups is None or groups == x.shape[1]:
        return None
    inner = x.shape[1] // groups
    functions: dict[str, Function] = {
        "sum_of_groups": lambda m, v: v.unflatten(1, (groups, inner)).sum(1),
        "mean_in_groups": lambda m, v: v.unflatten(1, (groups, inner)).mean(2),
        "softmax_in_groups": lambda m, v: (v.unflatten(1, (groups, inner)).softmax(2) * 2 - 1).flatten(1, 2) * v,
        "one_group": lambda m, v: v.view(v.shape[0], groups, -1, v.shape[2], v.shape[3])[:, -1],
        "group_times_all": lambda m, v: (
            v.unflatten(1, (groups, -1)) * v.unflatten(1, (groups, -1))[:, :1].tanh()
        ).flatten(1, 2),
        "index_times_all": lambda m, v: (
            v.unflatten(1, (groups, -1))[:, :, 0:1] * v.unflatten(1, (groups, inner))
        ).reshape(v.shape),
        "folded_into_batch": lambda m, v: (
            v.reshape(v.shape[0] * groups, inner, v.shape[2], v.shape[3]).tanh().reshape(v.shape)
        ),
        "groups_attend": lambda m, v: (
            torch.einsum(
                "bgcs,bkcs->bgk", v.unflatten(1, (groups, inner)).flatten(3), v.unflatten(1, (groups, inner)).flatten(3)
            )
            .softmax(-1)
            .matmul(v.unflatten(1, (groups, inner)).flatten(2))
            .view(v.shape)
        ),
    }
    name = random.choice(tuple(functions))
    return Made(f"{name}({groups}, {inner})", functions[name])


class _Matrix(nn.Module):
    """A bare matrix between channels, learned or fixed, with a bare bias."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(rows, columns))
        self.bias = nn.Parameter(torch.ones(rows))
        self.register_buffer("fixed", torch.cos(torch.outer(torch.arange(rows), torch.arange(1.0, columns + 1))))


def _products(random: Random, x: Tensor) -> Made:
    channels, width = x.shape[1], random.randint(2, 8)
    functions: dict[str, Function] = {
        "einsum": lambda m, v: torch.einsum("bchw,oc->bohw", v, m.weight),
        "functional_conv": lambda m, v: F.conv2d(v, m.weight[:, :, None, None], m.bias),
        "matrix_on_the_left": lambda m, v: (m.weight @ v.flatten(2)).view(v.shape[0], -1, *v.shape[2:4]),
        "transposed_matrix": lambda m, v: (v.permute(0, 2, 3, 1) @ m.weight.t() + m.bias).permute(0, 3, 1, 2),
        "scaled_weight": lambda m, v: F.linear(v.movedim(1, -1), m.weight * m.bias[:, None], m.bias).movedim(-1, 1),
        "fixed_matrix": lambda m, v: (v.movedim(1, -1) @ m.fixed.t()).movedim(-1, 1) * 0.3,
        "einsum_of_numbers": lambda m, v: torch.einsum(v, [0, 1, 2, 3], m.weight, [4, 1], [0, 4, 2, 3]),
        "part_of_weight": lambda m, v: F.linear(v.movedim(1, -1), m.weight[1:], m.bias[1:]).movedim(-1, 1),
        "there_and_back": lambda m, v: (torch.tanh(v.movedim(1, -1) @ m.weight.t()) @ m.weight).movedim(-1, 1),
        "normalised_weight": lambda m, v: F.conv2d(v, F.normalize(m.weight, dim=1)[..., None, None], m.bias),
    }
    name = random.choice(tuple(functions))
    return Made(f"{name}({width})", functions[name], _Matrix(width, channels))


def _constants(random: Random, x: Tensor) -> Made:
    channels = x.shape[1]
    functions: dict[str, Function] = {
        "range": lambda m, v: v * (torch.arange(channels).view(-1, 1, 1) / channels + 0.5),
        "range_of_size": lambda m, v: v * (torch.arange(v.shape[1], device=v.device)[:, None, None] * 0.1 + 0.5),
        "ones_joined": lambda m, v: torch.cat([v, torch.ones_like(v[:, :1])], 1),
        "zeros_joined": lambda m, v: torch.cat([v.new_zeros(v.shape[0], 2, v.shape[2], v.shape[3]), v], 1),
        "full": lambda m, v: v + v.new_full((v.shape[1], 1, 1), 0.0),
        "pad_to_size": lambda m, v: F.pad(v, (0, 0, 0, 0, 0, (channels + 2) - v.shape[1])),
        "first_by_share": lambda m, v: v[:, : (v.shape[1] + 1) // 2],
        "divided_by_size": lambda m, v: v * 3 / v.shape[1] + v.sum(1, keepdim=True) / v.size(1),
    }
    name = random.choice(tuple(functions))
    return Made(name, functions[name])


def _chosen(random: Random, x: Tensor) -> Made:
    """Places and truths that are computed: from the data, from constants, or from sizes."""
    channels = x.shape[1]
    alone: dict[str, Function] = {
        "channels_by_score": lambda m, v: v[:, v.mean((0, 2, 3)).sort()[1]],
        "channels_of_pieces": lambda m, v: v[:, torch.cat(torch.arange(channels).tensor_split(2)[::-1])],
        "channels_of_sorted": lambda m, v: v[:, torch.arange(channels).roll(1).sort(descending=True).indices],
        "above_others": lambda m, v: v * (v.mean(1, keepdim=True) * 9 > v.relu() + 0.7),
        "rolled_by_size": lambda m, v: v.roll(v.shape[2], 1),
        "truth_of_size": lambda m, v: v + 0.3 * (v.shape[2] > 4),
        "frames": lambda m, v: v.view(-1, 1, *v.shape[1:]).mean(1),
    }
    scored: dict[str, Function] = {
        "rows_by_score": lambda m, v: v.gather(2, m(v).mean((1, 3)).sort(1)[1][:, None, :, None].expand_as(v)),
        "best_row": lambda m, v: v * torch.gather(v, 2, m(v).max(2, keepdim=True)[1].expand(-1, channels, -1, -1)),
    }
    name = random.choice((*alone, *scored))
    if name in alone:
        return Made(name, alone[name])
    return Made(name, scored[name], nn.Conv2d(channels, 1, 1))


def _like_another(random: Random, x: Tensor) -> Made:
    """Channels of their own, in the shape of others."""
    channels = x.shape[1]
    functions: dict[str, Function] = {
        "view_as": lambda m, v: (m.weight @ v.flatten(2)).view_as(v),
        "reshape_as": lambda m, v: (m.weight @ v.flatten(2)).transpose(1, 2).transpose(1, 2).reshape_as(v),
        "expand_as": lambda m, v: (m.weight @ v.flatten(2)).mean(2)[..., None, None].expand_as(v),
        "view_of_shape": lambda m, v: (m.weight @ v.flatten(2)).view(v.shape),
    }
    name = random.choice(tuple(functions))
    return Made(name, functions[name], _Matrix(channels, channels))


def _recurrent(random: Random, x: Tensor) -> Made:
    width = random.randint(2, 5)
    both = random.random() < 0.3
    module = nn.GRU(x.shape[1], width, batch_first=True, bidirectional=both)

    def function(m: nn.Module, v: Tensor) -> Tensor:
        return m(v.mean(2).transpose(1, 2))[0].transpose(1, 2).unsqueeze(2)

    return Made(f"gru_over_columns({width}, both={both})", function, module)


def _windows(random: Random, x: Tensor) -> Made | None:
    if x.shape[2] % 2 or x.shape[3] % 2:
        return None
    kind = random.choice(("unfold", "patches", "four_pictures", "windows"))
    if kind == "unfold":
        return Made(
            "unfold", lambda m, v: F.unfold(v, 2, stride=2).view(v.shape[0], -1, v.shape[2] // 2, v.shape[3] // 2)
        )
    if kind == "patches":
        return Made(
            "patches",
            lambda m, v: v.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 1, 4, 5, 2, 3).flatten(1, 3),
        )
    if kind == "four_pictures":
        return Made(
            "four_pictures",
            lambda m, v: torch.cat([v[..., ::2, ::2], v[..., 1::2, ::2], v[..., ::2, 1::2], v[..., 1::2, 1::2]], -3),
        )
    return Made(
        "windows_into_batch",
        lambda m, v: (
            v.view(v.shape[0], v.shape[1], v.shape[2] // 2, 2, v.shape[3] // 2, 2)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(-1, v.shape[1], 2, 2)
            .softmax(-1)
            .reshape(v.shape[0], v.shape[2] // 2, v.shape[3] // 2, v.shape[1], 2, 2)
            .permute(0, 3, 1, 4, 2, 5)
            .reshape(v.shape)
            * v
        ),
    )


def _noop(random: Random, x: Tensor) -> Made:
    return random.choice(
        (
            Made("dropout(0)", lambda m, v: m(v), nn.Dropout(0.0)),
            Made("identity", lambda m, v: m(v), nn.Identity()),
            Made("zeros_added", lambda m, v: v + torch.zeros_like(v)),
            Made("contiguous", lambda m, v: v.contiguous().clone()),
        )
    )


ALONE: tuple[tuple[int, Maker], ...] = (
    (6, _conv),
    (6, _conv_block),
    (4, _activation),
    (4, _norm),
    (3, _grouped_conv),
    (3, _depthwise),
    (2, _transposed_conv),
    (3, _bottleneck),
    (1, _not_zero_at_zero),
    (2, _constant_reader),
    (2, _standardised),
    (2, _weight_norm),
    (2, _norm_by_hand),
    (1, _grouped_queries),
    (2, _squeeze_excite),
    (1, _spatial_gate),
    (2, _parameter),
    (2, _pool),
    (1, _resize),
    (2, _shuffle),
    (2, _pixels),
    (2, _pad),
    (2, _reorder),
    (1, _repeat),
    (2, _slice),
    (2, _split),
    (2, _halves),
    (2, _attention),
    (1, _channels_last),
    (1, _along_rows),
    (1, _loop),
    (1, _over_channels),
    (1, _like_another),
    (1, _in_space),
    (1, _in_place),
    (1, _noop),
    (1, _swap_roles),
    (2, _regroup),
    (2, _products),
    (1, _constants),
    (1, _chosen),
    (1, _recurrent),
    (1, _windows),
)

# ---------------------------------------------------------------------------------------------- steps on two values


def _of_two(random: Random, pool: Sequence[Tensor], first: int) -> Made | None:
    """Join the value with another of the same shape, or of the same height and width."""
    x = pool[first]
    same = [index for index, value in enumerate(pool) if value.shape == x.shape]
    if len(same) > 1 and random.random() < 0.6:
        other = random.choice(same)
        name = random.choice(
            ("add", "add", "add", "mul", "sub", "maximum", "cat_batch_sum", "stack_mean", "add_", "where", "dot")
        )
        functions: dict[str, Function] = {
            "add": lambda m, v, w: v + w,
            "mul": lambda m, v, w: torch.tanh(v) * w,
            "sub": lambda m, v, w: torch.sub(v, w, alpha=0.5),
            "maximum": lambda m, v, w: torch.maximum(v, w),
            "cat_batch_sum": lambda m, v, w: torch.cat([v, w], 0)[: v.shape[0]] + w,
            "stack_mean": lambda m, v, w: torch.stack([v, w], 1).mean(1),
            "add_": lambda m, v, w: (v * 1.0).add_(w, alpha=2),
            "where": lambda m, v, w: torch.where(w > 0.1, v, 0.5 * w),
            "dot": lambda m, v, w: v * torch.einsum("bchw,bchw->bhw", v, w).tanh().unsqueeze(1),
        }
        return Made(name, functions[name], others=(other,))
    near = [
        index for index, v in enumerate(pool) if v.shape[2:] == x.shape[2:] and v.shape[1] + x.shape[1] <= MAX_CHANNELS
    ]
    if not near:
        return None
    other = random.choice(near)
    kind = random.choice(("cat", "cat", "project", "cat_rows"))
    if kind == "cat":
        return Made("cat", lambda m, v, w: torch.cat([v, w], dim=1), others=(other,))
    if kind == "cat_rows" and pool[other].shape[1] == x.shape[1]:
        return Made("cat_rows", lambda m, v, w: torch.cat((v, w), dim=2), others=(other,))
    module = nn.Conv2d(pool[other].shape[1], x.shape[1], 1)
    return Made("add_projected", lambda m, v, w: v + m(w), module, others=(other,))


def _shared(random: Random, net: RandomNet, pool: Sequence[Tensor], first: int) -> Made | None:
    """Run an earlier step's module again on another value of as many channels."""
    channels, size = pool[first].shape[1], pool[first].shape[2:]
    fitting = [
        step
        for step in net.steps
        if step.key is not None
        and len(step.operands) == 1
        and pool[step.operands[0]].shape[1] == channels
        and pool[step.operands[0]].shape[2:] == size
    ]
    if not fitting:
        return None
    step = random.choice(fitting)
    return Made(f"again {step.text}", step.function, shared=step.key)


# -------------------------------------------------------------------------------------------------------- whole nets


def _fits(values: Sequence[Any]) -> bool:
    return all(
        isinstance(value, Tensor)
        and value.dim() == 4
        and 1 <= value.shape[1] <= MAX_CHANNELS
        and 0 < value[0].numel() <= MAX_ELEMENTS
        and bool(torch.isfinite(value).all())
        and float(value.abs().max()) < LIMIT
        for value in values
    )


def _draw_step(random: Random, net: RandomNet, pool: Sequence[Tensor]) -> tuple[Made, int] | None:
    first = len(pool) - 1 if random.random() < 0.75 else random.randrange(min(1, len(pool) - 1), len(pool))
    kind = random.random()
    if kind < 0.75:
        weights = [weight for weight, _ in ALONE]
        maker = random.choices([maker for _, maker in ALONE], weights)[0]
        made = maker(random, pool[first])
    elif kind < 0.93:
        made = _of_two(random, pool, first)
    else:
        made = _shared(random, net, pool, first)
    return None if made is None else (made, first)


def _add(net: RandomNet, made: Made, first: int, seed: int) -> Step:
    key = made.shared
    if made.module is not None:
        key = f"{len(net.steps)}_{made.text.split('(')[0].replace('-', '_').replace(' ', '_')}"
        net.layers[key] = made.module.double()
        randomise(made.module, seed)
    step = Step(made.text, made.function, key, (first, *made.others))
    net.steps.append(step)
    return step


def _remove(net: RandomNet, made: Made) -> None:
    step = net.steps.pop()
    if made.module is not None:
        assert step.key is not None
        del net.layers[step.key]


class _Head(nn.Module):
    """Pooled values joined to one linear layer, and the form of the output."""

    def __init__(self, values: Sequence[Tensor], flatten: bool, form: str) -> None:
        super().__init__()
        self.flatten, self.form = flatten, form
        width = values[0][0].numel() if flatten else values[0].shape[1]
        self.fc = nn.Linear(width + sum(value.shape[1] for value in values[1:]), 3)
        self.conv = nn.Conv2d(values[0].shape[1], 2, 1)

    def forward(self, *values: Tensor) -> Any:
        main = values[0].flatten(1) if self.flatten else values[0].mean((2, 3))
        rest = [F.adaptive_avg_pool2d(value, 1).flatten(1) for value in values[1:]]
        out = self.fc(torch.cat([main, *rest], 1))
        if self.form == "tuple":
            return out, self.conv(values[0])
        if self.form == "dict":
            return {"out": out, "map": [self.conv(values[0])]}
        if self.form == "hidden":
            return out, values[0]
        return out


def draw_net(random: Random) -> tuple[RandomNet, Callable[[int], Tensor]]:
    """A net in float64 with random weights, and its inputs for a batch size.

    Args:
        random: where all choices come from.
    """
    channels, size = random.choice((3, 1, 2, 4)), random.choice((4, 6, 5))
    seed = random.getrandbits(31)

    def inputs(batch: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64)

    net = RandomNet().double()
    pool = [inputs(2)]
    used: set[int] = set()
    count = random.randint(2, MAX_STEPS)
    with torch.no_grad():
        for attempt in range(3 * count):
            if len(net.steps) >= count:
                break
            drawn = _draw_step(random, net, pool) if attempt or random.random() < 0.2 else (_conv(random, pool[0]), 0)
            if drawn is None:
                continue
            made, first = drawn
            step = _add(net, made, first, seed + attempt + 1)
            # The whole net is run again, since a step may work in place and so change earlier values.
            values = [inputs(2)]
            for earlier in net.steps:
                result = net.apply_step(earlier, values)
                values.extend(result if isinstance(result, tuple) else (result,))
            if not _fits(values[len(pool) :]):
                _remove(net, made)
                continue
            pool = values
            used.update(step.operands)
        left = [index for index in range(1, len(pool)) if index not in used] or [len(pool) - 1]
        main = left[-1]
        rest = [index for index in left[:-1] if random.random() < 0.8]
        form = random.choice(("tensor", "tensor", "tuple", "dict", "hidden"))
        flatten = random.random() < 0.4
        head = _Head([pool[index] for index in (main, *rest)], flatten, form)
        text = f"head(flatten={flatten}, {form})"
        made = Made(text, lambda m, *values: m(*values), head, others=tuple(rest))
        _add(net, made, main, seed)
    return net, inputs


def net_of_seed(seed: int) -> tuple[RandomNet, Callable[[int], Tensor]]:
    """The net that belongs to a number, the same on every machine."""
    return draw_net(random_module.Random(seed))
