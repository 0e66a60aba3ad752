"""Element-by-element operations: operands' ids meet; whether zeros stay zero is found by evaluating the function."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from atofx.ir.values import ANYTHING, Layer, TensorValue, unlabelled
from atofx.ops.arguments import argument, target_name
from atofx.ops.context import LineageContext, blank, tensors_in
from atofx.ops.evaluate import meta_call
from atofx.ops.meeting import meet, zero_if
from atofx.ops.registry import REGISTRY, BoundCall, OpRecord, layout_in_place, same_layout, same_shape

#: Values an operand that is not zero is probed with.
_PROBES = torch.tensor([-1e4, -3.7, -1.0, -0.31, 0.0, 0.23, 1.0, 2.9, 1e4], dtype=torch.float64)
#: Zeros of both signs, for the first, second and third operand.
_ZEROS = torch.tensor(
    [[-0.0 if place >> bit & 1 else 0.0 for place in range(len(_PROBES))] for bit in range(3)]
).double()
#: What is added to a number computed in the graph: an image may have another size than the example's.
_OTHER_SIZES = (0, 1000, -1000)
#: Constants that differ by no more than this, relative or absolute, in two precisions are one.
_ROUNDING = 1e-5


def pointwise(ctx: LineageContext, *args: Any, **kwargs: Any) -> Any:
    """Any function applied element by element, with broadcasting."""
    operands = tensors_in((args, kwargs))
    if not operands:
        return ctx.out
    if not isinstance(ctx.out, Tensor):
        ctx.pin_value((args, kwargs), "reaches an element-wise operation with several results")
        return unlabelled(ctx.out)

    def at_rest(rests: tuple[float | None, ...]) -> float:
        return _at_rest(ctx, args, kwargs, operands, rests)

    key = _function_of_tensors(ctx, operands) if not kwargs and len(operands) == len(args) else None
    value = at_rest if key is None else ctx.remembered(key, at_rest)
    return ctx.value(ctx.out, meet(ctx, operands, tuple(ctx.out.shape), value))


def _function_of_tensors(ctx: LineageContext, operands: Sequence[TensorValue]) -> Any:
    """What the node calls and on which dtypes, equal where the same is computed; None where that is hard to say."""
    kinds = tuple((operands.index(operand), operand.meta.dtype) for operand in operands)  # f(x, x) is not f(x, y)
    if ctx.node.op == "call_function":
        return ctx.node.target, kinds
    if ctx.module is None:
        return None
    settings = []
    for name, value in vars(ctx.module).items():
        if type(value) in _SETTINGS:
            settings.append((name, value))
        elif not isinstance(value, (dict, set)) or value:  # parameters, children, hooks, or something else
            return None
    return type(ctx.module), tuple(settings), kinds


_SETTINGS = frozenset({int, float, bool, str, type(None)})


def _at_rest(
    ctx: LineageContext,
    args: Any,
    kwargs: Any,
    operands: Sequence[TensorValue],
    rests: tuple[float | None, ...],
) -> float:
    """The value of the node's function where some operands are these constants and the others may be anything.

    Where some may be anything, probes may miss what a maximum with a large number, or a comparison, does: then only
    zero is believed, and only of zeros and truth values. Other constants are not believed either where a number
    computed in the graph takes part, or where one more rounding makes another constant of it.
    """
    exhaustive = [not rest or operand.meta.dtype == torch.bool for operand, rest in zip(operands, rests, strict=True)]
    if all(r is None for r in rests) or (None in rests and not all(exhaustive)):
        return ANYTHING
    sized = any(isinstance(n.meta.get("val"), (int, float)) for n in ctx.node.all_input_nodes)
    found: list[float] = []
    for other_size in _OTHER_SIZES if sized else _OTHER_SIZES[:1]:
        for precision in (torch.float64, torch.float32) if any(rests) else (torch.float64,):
            result = _evaluated(ctx, args, kwargs, _stand_ins(operands, rests, precision), other_size)
            if not isinstance(result, Tensor) or result.is_complex():
                return ANYTHING
            found += result.tolist()
    values = [value for value in found if not math.isnan(value)]  # then the dense model gives no number either
    if not any(map(math.isfinite, values)):
        return math.inf
    if set(values) == {0}:
        return 0.0
    alike = max(values) - min(values) <= _ROUNDING * max(1.0, *map(abs, values))
    return float(values[0]) if None not in rests and alike and not sized else ANYTHING


def _stand_ins(
    operands: Sequence[TensorValue], rests: tuple[float | None, ...], precision: torch.dtype
) -> dict[int, Tensor]:
    """By operand: its constant, zeros of both signs, or probes."""
    found: dict[int, Tensor] = {}
    for i, (operand, rest) in enumerate(zip(operands, rests, strict=True)):
        dtype = operand.meta.dtype
        if rest is not None:
            values = torch.full_like(_PROBES, rest) if rest else _ZEROS[i % len(_ZEROS)].clone()
        else:
            values = torch.arange(len(_PROBES)) % 2 == 0 if dtype == torch.bool else _PROBES.roll(i)
        found[id(operand)] = values.to(precision if dtype.is_floating_point else dtype)
    return found


def _evaluated(ctx: LineageContext, args: Any, kwargs: Any, stand_ins: Mapping[int, Tensor], other_size: int) -> Any:
    """The node's function of the stand-ins, None where it refuses; numbers of the graph are shifted, truths chosen."""

    def swap(value: Any, given: Any) -> Any:
        if isinstance(value, TensorValue):
            return stand_ins[id(value)]
        if isinstance(value, (tuple, list)):
            inner = given if isinstance(given, (tuple, list)) else (None,) * len(value)
            return type(value)(swap(v, g) for v, g in zip(value, inner, strict=True))
        if not (isinstance(given, fx.Node) and isinstance(value, (int, float)) and other_size):
            return value
        return other_size > 0 if isinstance(value, bool) else value + other_size

    given, named = ctx.node.args, ctx.node.kwargs
    positional = tuple(swap(v, given[i] if i < len(given) else None) for i, v in enumerate(args))
    try:
        return meta_call(ctx.node, positional, {k: swap(v, named.get(k)) for k, v in kwargs.items()}, ctx.module)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None


def per_channel_unary(ctx: LineageContext, module: nn.Module, x: TensorValue) -> BoundCall:
    """PReLU: a weight per channel (dimension 1)."""
    weight = ctx.module_leaf("weight")
    return (x, weight), {}


def prelu(ctx: LineageContext, x: TensorValue, weight: TensorValue) -> TensorValue:
    """PReLU maps 0 to 0; its weight lies along dimension 1."""
    if weight.meta.numel() > 1:
        weight = along_dim(weight, 1 if x.ndim > 1 else 0, x.ndim)
        layers = meet(ctx, [x, weight], x.shape, zero_if(lambda zeros: zeros[0]))
    else:
        layers = [layer.only_zeros() for layer in x.layers]
    return ctx.value(ctx.out, layers)


def along_dim(vector: TensorValue, dim: int, ndim: int) -> TensorValue:
    """View a one-dimensional value along ``dim`` of an ``ndim``-dimensional tensor, where it may lie already."""
    if vector.ndim == ndim:
        return vector
    shape = (1,) * dim + vector.shape + (1,) * (ndim - dim - 1)
    layers = tuple([y.reshaped(shape) for y in vector.layers])
    return TensorValue(blank(shape, shape, vector.meta.dtype), layers, vector.moved_leaf)


def glu(ctx: LineageContext, x: TensorValue, dim: int = -1) -> TensorValue:
    """a * sigmoid(b) of the two halves along ``dim``."""
    axis = dim % x.ndim
    half = x.shape[axis] // 2
    parts = []
    for start in (0, half):
        layers = []
        for layer in x.layers:
            varies = layer.shape[axis] > 1
            layers.append(layer.moved(partial(torch.narrow, dim=axis, start=start, length=half)) if varies else layer)
        parts.append(ctx.value(x.meta.narrow(axis, start, half), layers))
    return ctx.value(ctx.out, meet(ctx, parts, tuple(ctx.out.shape), zero_if(lambda zeros: zeros[0])))


def dropout(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """Dropout and stochastic depth scale every element or set it to zero, modules only while training."""
    position = _TRAINING.get(target_name(ctx.node), 2)
    active = ctx.module is None and argument(ctx.node, position, "training", ctx.node.kwargs.get("train", True))
    return TensorValue(ctx.out, tuple(layer.only_zeros() if active else layer for layer in x.layers))


_TRAINING = {"stochastic_depth": 3, "drop_block2d": 5, "drop_block3d": 5}  # where the call says so, if not third


def same(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """contiguous, clone, to, detach: the same elements, cut to whole numbers or truth values by some dtypes."""
    dtype = ctx.out.dtype
    whole = not (dtype.is_floating_point or dtype.is_complex)
    return TensorValue(ctx.out, tuple(_cut_to(y, dtype) if whole else y for y in x.layers), x.moved_leaf)


def _cut_to(layer: Layer, dtype: torch.dtype) -> Layer:
    """The layer with its values at rest as a dtype of whole numbers has them."""
    if layer.clean:
        return layer
    return layer.with_rest(torch.where(layer.rest.isnan(), ANYTHING, layer.rest.nan_to_num().to(dtype).double()))


def fake_quantize(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """Rounded to one of a few values, zero to zero."""
    return TensorValue(ctx.out, tuple(layer.only_zeros() for layer in x.layers))


def identity_module(ctx: LineageContext, x: Any, *args: Any, **kwargs: Any) -> Any:
    """nn.Identity passes anything on."""
    return x


def filled_like(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> TensorValue:
    """zeros_like, ones_like, full_like, zero_, fill_, …: the same shape, a constant everywhere."""
    name = target_name(ctx.node)
    zeros = name in ("zeros_like", "zero_")
    fill = 0 if zeros else argument(ctx.node, 1, "value" if name == "fill_" else "fill_value")
    zero = isinstance(fill, (int, float)) and fill == 0
    return TensorValue(ctx.out, tuple(layer.with_rest(0.0 if zero else ANYTHING) for layer in x.layers))


# ---------------------------------------------------------------------- records

_NAMES = """
abs absolute acos arccos acosh add addcdiv addcmul angle asin asinh atan arctan atan2 arctan2 atanh bitwise_and
bitwise_or bitwise_xor bitwise_not ceil celu clamp clamp_max clamp_min clip conj copysign cos cosh deg2rad digamma div
divide elu eq erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide fmax fmin fmod frac ge greater
greater_equal gt hardshrink heaviside hypot i0 igamma igammac isclose isfinite isinf isnan ldexp le lerp less
less_equal lgamma log log10 log1p log2 logaddexp logaddexp2 logical_and
logical_not logical_or logical_xor logit lt masked_fill max maximum min minimum mul multiply mvlgamma
nan_to_num ne neg negative nextafter not_equal polygamma pow positive rad2deg real reciprocal relu remainder round
rrelu rsqrt rsub selu sgn sigmoid sign signbit sin sinc sinh softplus sqrt square sub subtract tan tanh threshold
true_divide trunc where xlogy
""".split()
_AMBIGUOUS = {"max", "min"}  # reductions unless called with two tensors; they have records of their own
_FUNCTIONAL = """
celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu relu6 rrelu selu sigmoid silu
softplus softshrink softsign tanh tanhshrink threshold relu_ elu_ celu_ selu_ leaky_relu_ rrelu_ hardtanh_ threshold_
""".split()
_MODULES = [
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid,
    nn.Mish, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign,
    nn.Tanh, nn.Tanhshrink, nn.Threshold,
]  # fmt: skip
_OPERATORS = [
    operator.abs, operator.add, operator.and_, operator.eq, operator.floordiv, operator.ge, operator.gt, operator.iadd,
    operator.iand, operator.ifloordiv, operator.imod, operator.imul, operator.invert, operator.ior, operator.ipow,
    operator.isub, operator.itruediv, operator.ixor, operator.le, operator.lt, operator.mod, operator.mul, operator.ne,
    operator.neg, operator.not_, operator.or_, operator.pos, operator.pow, operator.sub, operator.truediv, operator.xor,
]  # fmt: skip
_ARITHMETIC = [torch.add, torch.sub, torch.mul, operator.add, operator.sub, operator.mul]
_IN_PLACE = [operator.iadd, operator.isub, operator.imul]
_NUMBERS = [
    math.ceil, math.exp, math.floor, math.log, math.log2, math.pow, math.prod, math.sqrt, math.trunc, float, int, round,
]  # fmt: skip

POINTWISE = OpRecord("pointwise", pointwise)
_names = [name for name in _NAMES if name not in _AMBIGUOUS]
REGISTRY.add(
    POINTWISE,
    functions=[
        *(getattr(torch, name) for name in _names if hasattr(torch, name)),
        *(getattr(torch, f"{name}_") for name in _names if hasattr(torch, f"{name}_")),
        *(getattr(F, name) for name in _FUNCTIONAL if hasattr(F, name)),
        *(getattr(torch.special, name) for name in ("expit", "erf", "erfc", "expm1", "exp2", "log1p", "logit", "sinc")),
        *_OPERATORS,
        *_NUMBERS,
    ],
    methods=[*_names, *(f"{name}_" for name in _names), "masked_fill_", "__add__", "__mul__", "copy_"],
)
REGISTRY.add(OpRecord("pointwise", pointwise, layout=same_layout), functions=_ARITHMETIC)
REGISTRY.add(OpRecord("pointwise", pointwise, layout=layout_in_place), functions=_IN_PLACE)
REGISTRY.add(OpRecord("pointwise", pointwise, shape=same_shape), modules=_MODULES)
REGISTRY.add(OpRecord("prelu", prelu), functions=[torch.prelu, F.prelu], methods=["prelu"])
REGISTRY.add(
    OpRecord("prelu", prelu, shape=same_shape), modules=[nn.PReLU], bind=per_channel_unary, tensors=("weight",)
)
REGISTRY.add(OpRecord("glu", glu), functions=[F.glu])
REGISTRY.add(OpRecord("glu", glu), modules=[nn.GLU], bind=lambda ctx, m, x: ((x, m.dim), {}))
_DROPOUT = OpRecord("dropout", dropout, shape=same_shape)
REGISTRY.add(
    _DROPOUT,
    functions=[
        F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout, torch.dropout_, torch.feature_dropout,
        "torchvision.ops.stochastic_depth.stochastic_depth", "torchvision.ops.drop_block.drop_block2d",
        "torchvision.ops.drop_block.drop_block3d",
    ],
    modules=[nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d],
)  # fmt: skip
REGISTRY.add(
    OpRecord("same elements", same),
    functions=[torch.clone, torch.detach, torch.real, torch._assert],
    methods=[
        "contiguous", "clone", "detach", "detach_", "to", "float", "double", "half", "bfloat16", "cuda", "cpu", "type",
        "requires_grad_", "int", "long", "bool", "real", "type_as",
    ],
)  # fmt: skip
REGISTRY.add(OpRecord("fake quantization", fake_quantize), functions=[torch.fake_quantize_per_tensor_affine])
REGISTRY.add(OpRecord("identity", identity_module), modules=[nn.Identity])
REGISTRY.add(
    OpRecord("filled like", filled_like),
    functions=[torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like, torch.rand_like, torch.randn_like],
    methods=["zeros_like", "ones_like", "zero_", "fill_"],
)
