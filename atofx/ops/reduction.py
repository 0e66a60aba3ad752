"""Reductions and other operations that mix the elements along some dimensions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from atofx.ir.values import ANYTHING, Layer, TensorValue
from atofx.nn import functional as cut
from atofx.ops.arguments import argument, argument_node, source_node, target_name
from atofx.ops.context import LineageContext, tensors_in
from atofx.ops.pointwise import pointwise
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer

#: Which values at rest outlast an operation: any constant, zero only, none.
Stays = Literal["constant", "zero", "nothing"]
_KEPT: dict[Stays, Callable[[Layer], Layer]] = {
    "constant": lambda layer: layer,
    "zero": Layer.only_zeros,
    "nothing": lambda layer: layer.with_rest(ANYTHING),
}


def mix(
    ctx: LineageContext, x: TensorValue, dims: Sequence[int], *, additive: bool, stays: Stays, reason: str
) -> list[Layer]:
    """The layers of ``x`` after its elements along ``dims`` were mixed (dimensions still in place).

    A layer along mixed and other dimensions is tied along the mixed ones (whole heads, whole groups): mixing then
    happens inside a unit. A layer along mixed dimensions only is consumed: exact for a sum, because zeros add nothing;
    pinned else. ``stays``: which values at rest are the result's too.
    """
    mixed = {d % x.ndim for d in dims} if x.ndim else set()
    result = []
    for layer in x.layers:
        inside = [d for d in layer.dims if d in mixed]
        if not inside:
            result.append(_KEPT[stays](layer))
        elif len(inside) < len(layer.dims):
            result.append(_KEPT[stays](ctx.tie(layer, inside)))
        elif additive:
            ctx.require_zero(layer)
            source = argument_node(ctx.node, 0, "input")
            if source is not None:
                ctx.gate(source, layer)
        else:
            ctx.pin(layer, reason)
        if x.moved_leaf:
            ctx.mark_produced(layer.labels)
    return result


def _drop_dims(layer: Layer, dims: set[int], *, keepdim: bool) -> Layer:
    if keepdim:
        return layer
    return layer.moved(lambda t: t.squeeze(tuple(dims)))


def reduction(*, additive: bool, stays: Stays) -> Callable[..., Any]:
    """A lineage function for ``f(x, dim, keepdim)``."""

    def lineage(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> Any:
        if len(tensors_in((args, kwargs))) > 0:
            return pointwise(ctx, x, *args, **kwargs)  # torch.max(a, b)
        dims, keepdim = _dims(ctx, x, args, kwargs)
        reason = (
            f"{ctx.op_name} over channels depends on how many there are; apply it to a dimension that is not pruned"
        )
        layers = mix(ctx, x, sorted(dims), additive=additive, stays=stays, reason=reason)
        final = [_drop_dims(layer, dims, keepdim=keepdim) for layer in layers]
        return same_layers(ctx, ctx.out, final)

    return lineage


def same_layers(ctx: LineageContext, out: Any, layers: list[Layer]) -> Any:
    """Give every tensor of a (tuple) result these layers; only the first keeps its values at rest."""
    if isinstance(out, Tensor):
        return ctx.value(out, layers)
    return tuple(
        ctx.value(o, layers if i == 0 else [layer.with_rest(ANYTHING) for layer in layers]) for i, o in enumerate(out)
    )


def _dims(ctx: LineageContext, x: TensorValue, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[set[int], bool]:
    """(reduced dimensions, whether they stay with size 1), read off the call and the result's shape."""
    dim = kwargs.get("dim", kwargs.get("axis"))
    name = target_name(ctx.node)
    if dim is None and args:
        dim = args[0]
        if name.endswith("norm"):  # norm(x, p, dim)
            dim = args[1] if len(args) > 1 else None
        if isinstance(dim, bool) or dim == ():  # var(x, unbiased)
            dim = None
    out = ctx.out if isinstance(ctx.out, Tensor) else ctx.out[0]
    if dim is None or dim == []:
        return set(range(x.ndim)), out.dim() == x.ndim
    dims = {d % x.ndim for d in ([dim] if isinstance(dim, int) else dim)}
    return dims, out.dim() == x.ndim


def norm(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> Any:
    """Norms of order p >= 0, to which zeros add nothing; the smallest magnitude (p < 0) depends on them."""
    order = kwargs.get("p", kwargs.get("ord", args[0] if args else 2))
    additive = order in (None, "fro") or (isinstance(order, (int, float)) and order >= 0)
    return reduction(additive=additive, stays="zero")(ctx, x, *args, **kwargs)


def along(*, stays: Stays, default: int | None = -1) -> Callable[..., Any]:
    """A lineage function for ``f(x, dim)`` of unchanged shape that mixes along ``dim`` (softmax, cumsum, sort).

    Args:
        stays: which values at rest are the result's too.
        default: the dimension if the call names none; None stands for softmax's own rule.
    """

    def lineage(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> Any:
        dim = kwargs.get("dim", next((a for a in args if isinstance(a, int) and not isinstance(a, bool)), None))
        if dim is None:
            dim = default if default is not None else 0 if x.ndim in (0, 1, 3) else 1
        layers = mix(
            ctx, x, [dim], additive=False, stays=stays,
            reason=f"{ctx.op_name} over channels would change when channels are removed",
        )  # fmt: skip
        return same_layers(ctx, ctx.out, layers)

    return lineage


def normalize(
    ctx: LineageContext,
    x: TensorValue,
    p: float = 2.0,
    dim: int | Sequence[int] = 1,
    eps: float = 1e-12,
    out: None = None,
) -> TensorValue:
    """F.normalize: divides by a norm, to which zeros add nothing."""
    dims = [dim] if isinstance(dim, int) else dim
    return TensorValue(ctx.out, tuple(kept_through(ctx, x, dims, centred=False)))


def kept_through(ctx: LineageContext, x: TensorValue, dims: Sequence[int], *, centred: bool) -> list[Layer]:
    """The layers of ``x`` divided by something that was summed over ``dims``.

    Args:
        ctx: the run.
        x: the operand; the result has its shape.
        dims: dimensions summed over. A layer along these only is exact if zeros add nothing; one that varies along
            others too is tied along these (whole heads, whole groups), and sums stay inside a unit.
        centred: a mean over ``dims`` is taken off as well, so that what was zero no longer is.
    """
    mixed = {d % x.ndim for d in dims}
    result = []
    for layer in x.layers:
        if x.moved_leaf:
            ctx.mark_produced(layer.labels)
        inside = [d for d in layer.dims if d in mixed]
        if inside and len(inside) == len(layer.dims):
            ctx.require_zero(layer)
            source = argument_node(ctx.node, 0, "input")
            if source is not None:
                ctx.gate(source, layer)
            layer = layer.with_rest(ANYTHING) if centred else layer
        elif inside:
            ctx.tie(layer, inside)
        result.append(layer.only_zeros())
    return result


def resize_mean(resizer: Resizer, node: fx.Node) -> Any:
    """A mean over cut channels keeps the original count as its divisor."""
    source = source_node(node)
    ndim = resizer.lineage.values[source].ndim
    dim: Any = argument(node, 1, "dim")
    dim = node.kwargs.get("axis") if dim is None else dim
    share = resizer.share(source, range(ndim) if dim is None else [dim] if isinstance(dim, int) else dim)
    mean = resizer.copy(node)
    return mean if share == 1 else resizer.function(torch.mul, mean, share)


def extreme(ctx: LineageContext, x: TensorValue, *args: Any, **kwargs: Any) -> Any:
    """Amax, amin, and max and min if nobody reads the places: removed channels take part as zeros."""
    additive = x.meta.dtype != torch.bool and _only_values(ctx.node)
    return reduction(additive=additive, stays="constant")(ctx, x, *args, **kwargs)


def _only_values(node: fx.Node) -> bool:
    """Whether nobody reads the second tensor of a result that may be two."""
    return isinstance(node.meta.get("val"), Tensor) or all(
        user.target in (operator.getitem, getattr) and user.args[1] in (0, "values") for user in node.users
    )


def resize_extreme(resizer: Resizer, node: fx.Node) -> Any:
    """A maximum over cut channels is at least the zero of those that are gone, a minimum at most."""
    source = source_node(node)
    dim: Any = argument(node, 1, "dim", node.kwargs.get("axis", ()))
    found = resizer.copy(node)
    if isinstance(dim, fx.Node) or "other" in node.kwargs:
        return found  # of two tensors, element by element
    dims = [dim] if isinstance(dim, int) else dim or range(resizer.lineage.values[source].ndim)
    if resizer.share(source, dims) == 1:
        return found
    bound = {"min" if target_name(node) in ("amax", "max") else "max": 0}
    if isinstance(node.meta["val"], Tensor):
        return resizer.function(torch.clamp, found, **bound)
    return resizer.function(torch.clamp, resizer.function(operator.getitem, found, 0), **bound), None


def resize_variance(resizer: Resizer, node: fx.Node) -> Any:
    """A variance over cut channels counts those that are gone."""
    source, name = source_node(node), target_name(node)
    dim, correction, keepdim = _variance_arguments(node)
    dims = range(resizer.lineage.values[source].ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    share = resizer.share(source, dims)
    if share == 1:
        return resizer.copy(node)
    function = cut.std_mean if name.startswith("std") else cut.var_mean
    both = resizer.function(
        function, resizer.new(source), dim, correction=correction, keepdim=keepdim,
        share=share * argument(node, len(node.args), "share", 1.0),
    )  # fmt: skip
    return both if name.endswith("mean") else resizer.function(operator.getitem, both, 0)


def resize_deviation(resizer: Resizer, node: fx.Node) -> fx.Node:
    """A mean of squared deviations over cut channels counts those that are gone."""
    source, dim = source_node(node), argument(node, 1, "dim")
    share = argument(node, len(node.args), "share", 1.0) * resizer.share(source, dim)
    keepdim = argument(node, len(node.args), "keepdim", False)
    return resizer.function(cut.mean_square_deviation, resizer.new(source), dim, keepdim=keepdim, share=share)


def _variance_arguments(node: fx.Node) -> tuple[Any, Any, Any]:
    """(dim, correction, keepdim) of var(x, unbiased), var(x, dim, unbiased, keepdim) or var(x, dim, *, correction)."""
    rest: list[Any] = list(node.args[1:])
    named: dict[str, Any] = dict(node.kwargs)
    names = ("unbiased",) if rest and isinstance(rest[0], bool) else ("dim", "unbiased", "keepdim")
    named |= dict(zip(names, rest, strict=False))
    correction = named.get("correction", int(named.get("unbiased", True)))
    return named.get("dim", named.get("axis")), correction, named.get("keepdim", False)


_SUM = OpRecord("sum", reduction(additive=True, stays="zero"))
_NORM = OpRecord("norm", norm)
_MEAN = OpRecord("mean", reduction(additive=True, stays="constant"), resize_mean)
_ZERO = OpRecord("reduction", reduction(additive=False, stays="zero"))
_CHOICE = OpRecord("reduction", reduction(additive=False, stays="constant"))
_OTHER = OpRecord("reduction", reduction(additive=False, stays="nothing"))
REGISTRY.add(_SUM, functions=[torch.sum, torch.nansum, torch.count_nonzero], methods=["sum", "nansum", "count_nonzero"])
REGISTRY.add(_MEAN, functions=[torch.mean], methods=["mean"])
REGISTRY.add(_NORM, functions=[torch.norm, torch.linalg.vector_norm], methods=["norm"])
_VARIANCE = OpRecord("variance", reduction(additive=True, stays="zero"), resize_variance)
_variances = ["var", "std", "var_mean", "std_mean"]
REGISTRY.add(
    _VARIANCE,
    functions=[*(getattr(torch, n) for n in _variances), cut.var_mean, cut.std_mean],
    methods=["var", "std"],
)
_DEVIATION = OpRecord("mean square deviation", reduction(additive=True, stays="zero"), resize_deviation)
REGISTRY.add(_DEVIATION, functions=[cut.mean_square_deviation])
_EXTREME = OpRecord("extreme", extreme, resize_extreme)
_extremes = ["amax", "amin", "max", "min"]
REGISTRY.add(_EXTREME, functions=[getattr(torch, n) for n in _extremes], methods=_extremes)
_zero = ["prod", "any", "all"]
_choice = ["median"]
_other = ["argmax", "argmin", "logsumexp", "mode", "aminmax"]
REGISTRY.add(_ZERO, functions=[getattr(torch, n) for n in _zero], methods=_zero)
REGISTRY.add(_CHOICE, functions=[getattr(torch, n) for n in _choice], methods=_choice)
REGISTRY.add(_OTHER, functions=[getattr(torch, n) for n in _other], methods=[n for n in _other if hasattr(Tensor, n)])

_SOFTMAX = OpRecord("softmax", along(stays="nothing", default=None))
REGISTRY.add(
    _SOFTMAX,
    functions=[F.softmax, torch.softmax, F.log_softmax, torch.log_softmax, F.softmin, F.gumbel_softmax],
    methods=["softmax", "log_softmax"],
)
REGISTRY.add(
    _SOFTMAX,
    modules=[nn.Softmax, nn.LogSoftmax, nn.Softmin],
    bind=lambda ctx, m, x: ((x,), {"dim": m.dim} if m.dim is not None else {}),
)
REGISTRY.add(_SOFTMAX, modules=[nn.Softmax2d], bind=lambda ctx, m, x: ((x,), {"dim": -3}))
_zero_scans = ["cumsum", "cumprod", "cummax", "cummin", "sort", "msort"]
_other_scans = ["logcumsumexp", "argsort"]
_SCANS: tuple[tuple[list[str], Stays], ...] = ((_zero_scans, "zero"), (_other_scans, "nothing"))
for _names, _stays in _SCANS:
    REGISTRY.add(
        OpRecord("scan", along(stays=_stays)),
        functions=[getattr(torch, n) for n in _names],
        methods=[n for n in _names if hasattr(Tensor, n)],
    )
REGISTRY.add(OpRecord("normalize", normalize), functions=[F.normalize])
