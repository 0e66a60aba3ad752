"""Sums of products: linear, matmul, einsum, bilinear. One function handles them all."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from atofx.ir.values import Labels, Layer, Run, TensorValue, as_tensor, zero_or_anything
from atofx.ops.arguments import argument_node
from atofx.ops.context import LineageContext, blank, tensors_in
from atofx.ops.evaluate import contiguous_meta
from atofx.ops.folding import fold_constants, takes_up_constants
from atofx.ops.meeting import beside, join, leanest, meet, zero_if
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def contract(
    ctx: LineageContext,
    operands: Sequence[TensorValue],
    nodes: Sequence[fx.Node | None],
    labels: Sequence[str],
    result: str,
    *,
    cost_share: tuple[int, int] = (1, 1),
) -> list[Layer]:
    """Layers of an einsum-like product summed over every label that is not in ``result``.

    Args:
        ctx: the run.
        operands: the factors.
        nodes: the graph nodes they come from (None for a module's own tensors), where gates can be placed.
        labels: per operand, one letter per dimension.
        result: the letters of the result.
        cost_share: (numerator, denominator): the part of the node's FLOPs this product stands for.
    """
    letters, orders, places, shared = _common_order(tuple(labels), result)
    if shared and ctx.granularity == "dims":
        operands = [
            _same_in_every_head(ctx, operand, text, shared) for operand, text in zip(operands, labels, strict=True)
        ]
    spread = [
        (i, _spread(layer, orders[i], places[i])) for i, operand in enumerate(operands) for layer in operand.layers
    ]
    out_layers = []
    extents = []
    for ids, parts in join(ctx, spread, "is multiplied with coordinates that are always kept"):
        members = {i for i, _ in parts}
        layer = Layer(ids, _product_at_rest(ids, [part for _, part in parts]))
        rest: Layer | None = layer
        if len(members) < len(operands):
            others = [(t, text) for i, (t, text) in enumerate(zip(operands, labels, strict=True)) if i not in members]
            fixed = [d for d in layer.dims if any(_has_extent(t, text, letters[d]) for t, text in others)]
            rest = beside(ctx, layer, fixed, "is multiplied with a tensor whose coordinates are always kept")
        if rest is None:
            for i, part in parts:
                if operands[i].moved_leaf and any(letters[d] in result for d in layer.dims):
                    ctx.mark_produced(part.labels)
            continue
        layer = leanest(ctx, rest, [part for _, part in parts])
        summed = [d for d in layer.dims if letters[d] not in result]
        if summed and len(summed) == len(layer.dims):
            extents.append(layer.labels)
            if not isinstance(layer.labels, Run) and any(part.dims != layer.dims for _, part in parts):
                parts = [(i, ctx.tie(part, [d for d in part.dims if d not in layer.dims])) for i, part in parts]
            _consume(ctx, layer.labels, parts, operands, nodes, orders, places)
            continue
        layer = ctx.tie(layer, summed) if summed else layer
        for i, part in parts:
            if operands[i].moved_leaf:
                ctx.mark_produced(part.labels)
        extents.append(layer.labels)
        out_layers.append(layer.reshaped(layer.shape[: len(result)]))
    ctx.cost(extents, share=cost_share)
    return out_layers


def _same_in_every_head(ctx: LineageContext, x: TensorValue, text: str, heads: frozenset[str]) -> TensorValue:
    """Layers that vary within heads, tied across them: one dimension of every head is a unit."""
    across = [d for d, c in enumerate(text) if c in heads]
    layers = [ctx.tie(layer, across) if set(layer.dims) - set(across) else layer for layer in x.layers]
    return x.with_layers(layers)


def _has_extent(operand: TensorValue, text: str, letter: str) -> bool:
    return letter in text and operand.shape[text.index(letter)] > 1


@lru_cache(maxsize=256)
def _common_order(
    labels: tuple[str, ...], result: str
) -> tuple[tuple[str, ...], tuple[tuple[int | None, ...], ...], tuple[tuple[int, ...], ...], frozenset[str]]:
    """All letters, those of the result first; two tables per operand; the shared letters.

    The tables are the operand's dimension for each letter, None for none, and the place of each of its dimensions.
    Shared are those of dimensions the product is taken for one by one: heads, besides the batch.
    """
    letters = (*result, *sorted({c for text in labels for c in text} - set(result)))
    orders = tuple(tuple(text.index(c) if c in text else None for c in letters) for text in labels)
    places = tuple(tuple(letters.index(c) for c in text) for text in labels)
    return letters, orders, places, frozenset(c for c in result if sum(c in text for text in labels) > 1)


def _spread(layer: Layer, order: Sequence[int | None], places: Sequence[int]) -> Layer:
    """Arrange a layer's dimensions, whose places among the letters are given, in the common order of letters."""
    labels = layer.labels
    if isinstance(labels, Run) and isinstance(layer.at_rest, float):
        return Layer(labels.along(places[labels.dim], len(order)), layer.at_rest)
    dims = [d for d in order if d is not None]
    shape = [1 if d is None else layer.shape[d] for d in order]
    return layer.moved(lambda t: t.permute(dims).reshape(shape))


def _product_at_rest(ids: Labels, factors: Sequence[Layer]) -> float | Tensor:
    """Zero where a factor is."""
    for factor in factors:  # most often the first is
        if factor.clean:
            return 0.0
    zero = torch.zeros(ids.shape, dtype=torch.bool)
    for factor in factors:
        zero |= factor.rest == 0
    return zero_or_anything(zero)


def _consume(
    ctx: LineageContext,
    ids: Labels,
    parts: Sequence[tuple[int, Layer]],
    operands: Sequence[TensorValue],
    nodes: Sequence[fx.Node | None],
    orders: Sequence[Sequence[int | None]],
    places: Sequence[Sequence[int]],
) -> None:
    """A label is summed away: where the unit is dropped an activation must be zero, or a constant that a bias takes up.

    A gate goes before it. A weight's own columns are only cut. Where parameters alone are mixed there is no activation
    to gate: pinned.
    """
    activations = [(i, layer) for i, layer in parts if not operands[i].moved_leaf]
    if not activations:
        ctx.pin_ids(as_tensor(ids), "parameters are mixed with each other over it")
        return
    single = len(activations) == 1
    layer = activations[0][1] if single else Layer(ids, _product_at_rest(ids, [layer for _, layer in activations]))
    if not layer.clean:
        rest = layer.rest.expand(ids.shape)
        if single and takes_up_constants(ctx.module):
            ctx.fold(as_tensor(ids), rest)
            rest = torch.where(rest.isfinite(), 0.0, rest)
        ctx.require_zero(Layer(ids, rest))
    for i, layer in parts:
        if operands[i].moved_leaf:
            ctx.mark_consumed(layer.labels)
    for i, layer in activations:
        node = nodes[i]
        if node is not None:  # of several factors this one is made zero, for another may be what makes the product so
            gated = layer if single else layer.with_rest(0.0)
            ctx.gate(node, _gathered(gated, orders[i], places[i]))
            break


def _gathered(layer: Layer, order: Sequence[int | None], places: Sequence[int]) -> Layer:
    """Undo :func:`_spread`."""
    labels = layer.labels
    if isinstance(labels, Run) and isinstance(layer.at_rest, float):
        dim = order[labels.dim]
        assert dim is not None
        return Layer(labels.along(dim, len(places)), layer.at_rest)
    natural = sorted(places)
    flat, shape = ([layer.shape[d] for d in dims] for dims in (natural, places))
    permutation = [natural.index(d) for d in places]
    return layer.moved(lambda t: t.reshape(flat).permute(permutation).reshape(shape))


def add_bias(ctx: LineageContext, meta: Tensor, layers: list[Layer], bias: TensorValue | None, dim: int) -> TensorValue:
    """Add a bias vector along ``dim`` (None adds nothing)."""
    product = TensorValue(meta, tuple(layers))
    if bias is None:
        return ctx.value(meta, layers)
    shape = [1] * meta.dim()
    shape[dim] = bias.shape[0] if bias.ndim else 1
    spread = tuple([y.reshaped(shape) for y in bias.layers])
    vector = TensorValue(blank(tuple(shape), tuple(shape), bias.meta.dtype), spread, bias.moved_leaf)
    return ctx.value(meta, meet(ctx, [product, vector], tuple(meta.shape), zero_if(all)))


def linear(
    ctx: LineageContext, input: TensorValue, weight: TensorValue, bias: TensorValue | None = None
) -> TensorValue:
    """y = x Wᵀ + b over the last dimension."""
    batch = letters_for(input.ndim - 1)
    labels = [batch + "Z", "YZ"[2 - weight.ndim :]]
    nodes = [argument_node(ctx.node, 0, "input"), argument_node(ctx.node, 1, "weight")]
    layers = contract(ctx, [input, weight], nodes, labels, batch + ("Y" if weight.ndim == 2 else ""))
    return add_bias(ctx, ctx.out, layers, bias, -1)


def letters_for(count: int) -> str:
    """One letter for each of the leading dimensions."""
    return "abcdefghijklmnopqrstuvw"[:count]


def matmul(ctx: LineageContext, a: TensorValue, *second: Any, **named: Any) -> TensorValue:
    """matmul, bmm, mm, mv, dot, @; the second factor has a name of its own in each."""
    b = tensors_in((second, named))[0]
    batch_a, batch_b = max(a.ndim - 2, 0), max(b.ndim - 2, 0)
    batch = letters_for(max(batch_a, batch_b))
    labels_a = batch[len(batch) - batch_a :] + ("YZ" if a.ndim > 1 else "Z")
    labels_b = batch[len(batch) - batch_b :] + ("ZX" if b.ndim > 1 else "Z")
    result = batch + ("Y" if a.ndim > 1 else "") + ("X" if b.ndim > 1 else "")
    nodes = [argument_node(ctx.node, 0, "input"), argument_node(ctx.node, 1, "other", "mat2", "vec", "tensor")]
    layers = contract(ctx, [a, b], nodes, [labels_a, labels_b], result)
    return ctx.value(ctx.out, layers)


def addmm(ctx: LineageContext, input: TensorValue, a: TensorValue, b: TensorValue, **kwargs: Any) -> TensorValue:
    """input + a @ b (addmm, baddbmm, addmv)."""
    batch = letters_for(max(a.ndim - 2, 0))
    labels_b = batch + ("ZX" if b.ndim > 1 else "Z")
    result = batch + "Y" + ("X" if b.ndim > 1 else "")
    nodes = [argument_node(ctx.node, 1, "mat1"), argument_node(ctx.node, 2, "mat2")]
    layers = contract(ctx, [a, b], nodes, [batch + "YZ", labels_b], result)
    product = TensorValue(ctx.out, tuple(layers))
    return ctx.value(ctx.out, meet(ctx, [product, input], tuple(ctx.out.shape), zero_if(all)))


def einsum(ctx: LineageContext, *args: Any) -> TensorValue:
    """torch.einsum with letters or lists of numbers, and an optional ellipsis."""
    equation, tensors = _equation(args)
    _, arguments = _equation(ctx.node.args)
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = "αβγδεζηθ"
    widest = max(t.ndim - len(term.replace("...", "")) for t, term in zip(tensors, terms, strict=True))
    labels = []
    for tensor, term in zip(tensors, terms, strict=True):
        width = tensor.ndim - len(term.replace("...", ""))
        labels.append(term.replace("...", spare[widest - width : widest]))
    if arrow:
        result = right.replace("...", spare[:widest])
    else:
        text = "".join(terms).replace("...", "")
        result = spare[:widest] + "".join(sorted(c for c in set(text) if text.count(c) == 1))
    if any(len(set(text)) != len(text) for text in [*labels, result]):
        ctx.pin_value(list(tensors), "einsum takes a diagonal of it")
        return TensorValue(ctx.out)
    nodes = [a if isinstance(a, fx.Node) else None for a in arguments]
    return ctx.value(ctx.out, contract(ctx, tensors, nodes, labels, result))


def _equation(args: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """The equation and the operands; without an equation a list of labels, numbers below 52, follows each operand."""
    if isinstance(args[0], str):
        listed = len(args) == 2 and isinstance(args[1], (list, tuple))
        return args[0], args[1] if listed else args[1:]
    arrow = f"->{_in_letters(args[-1])}" if len(args) % 2 else ""
    return ",".join(map(_in_letters, args[1::2])) + arrow, args[: len(args) // 2 * 2 : 2]


def _in_letters(labels: Sequence[Any]) -> str:
    letters = ascii_uppercase + ascii_lowercase  # the order of the numbers: without a result it is that of the labels
    return "".join("..." if label is Ellipsis else letters[label] for label in labels)


def bilinear(
    ctx: LineageContext, input1: TensorValue, input2: TensorValue, weight: TensorValue, bias: TensorValue | None = None
) -> TensorValue:
    """y_o = x1 W_o x2 + b_o."""
    batch = letters_for(input1.ndim - 1)
    nodes = [argument_node(ctx.node, i, name) for i, name in enumerate(("input1", "input2", "weight"))]
    layers = contract(ctx, [input1, input2, weight], nodes, [batch + "I", batch + "J", "OIJ"], batch + "O")
    return add_bias(ctx, ctx.out, layers, bias, -1)


def configure_linear(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.Linear: sizes follow the weight."""
    assert isinstance(module, nn.Linear)
    module.out_features, module.in_features = module.weight.shape
    fold_constants(module, resizer, node)


def configure_bilinear(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """nn.Bilinear."""
    assert isinstance(module, nn.Bilinear)
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


def linear_shape(module: nn.Module, x: Tensor) -> Tensor | None:
    """The result of nn.Linear."""
    assert isinstance(module, nn.Linear)
    if not x.dim() or x.shape[-1] != module.in_features:
        return None
    return contiguous_meta((*x.shape[:-1], module.out_features), x.dtype)


_LINEAR = OpRecord("linear", linear, shape=linear_shape)
REGISTRY.add(_LINEAR, functions=[F.linear])
REGISTRY.add(
    _LINEAR,
    modules=[nn.Linear],
    bind=lambda ctx, m, input: ((input, ctx.module_leaf("weight"), ctx.module_leaf("bias")), {}),
    configure=configure_linear,
    tensors=("weight", "bias"),
)
_BILINEAR = OpRecord("bilinear", bilinear)
REGISTRY.add(_BILINEAR, functions=[F.bilinear, torch.bilinear])
REGISTRY.add(
    _BILINEAR,
    modules=[nn.Bilinear],
    bind=lambda ctx, m, a, b: ((a, b, ctx.module_leaf("weight"), ctx.module_leaf("bias")), {}),
    configure=configure_bilinear,
    tensors=("weight", "bias"),
)
_MATMUL = OpRecord("matmul", matmul)
_matmul_names = ["matmul", "bmm", "mm", "mv", "dot"]
REGISTRY.add(
    _MATMUL,
    functions=[*(getattr(torch, n) for n in _matmul_names), torch.linalg.matmul, operator.matmul],
    methods=[*_matmul_names, "__matmul__"],
)
_sum_names = ["addmm", "baddbmm", "addmv"]
REGISTRY.add(OpRecord("addmm", addmm), functions=[getattr(torch, n) for n in _sum_names], methods=_sum_names)
REGISTRY.add(OpRecord("einsum", einsum), functions=[torch.einsum, torch.functional.einsum])
