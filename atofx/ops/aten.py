"""Operations of torch.export, spelled as the torch functions and methods that have the records.

There is one table of records. An exported graph calls overloads such as ``aten.view.default``; each is called here by the
name a user would write, so its lineage, resizing and counting are those of that function or method.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch.nn import functional as F

from atofx.ops.registry import REGISTRY

Spelling = Callable[..., Any]

#: Arguments that say nothing of the result's values, or their only supported value.
_IGNORED = frozenset({"layout", "pin_memory", "implicit", "non_blocking", "copy"})
#: Functions written in Python whose arguments are in the order of the overload's.
_SAME_ORDER = frozenset(
    {
        "adaptive_avg_pool2d", "adaptive_avg_pool3d", "celu", "elu", "glu", "hardsigmoid", "hardswish", "hardtanh",
        "leaky_relu", "mish", "relu6", "selu", "silu",
    }
)  # fmt: skip
#: torch's factories; looked up when called, since tracing replaces them.
_FACTORIES = frozenset({"zeros", "ones", "full", "empty", "rand", "randn", "arange", "linspace", "eye"})
#: Methods written in Python whose arguments are in the order of the overload's.
_PYTHON_METHODS = frozenset({"norm", "split", "unflatten"})
_NO_LIMIT = 2**63 - 1

_SPELLINGS: dict[str, Spelling] = {}


def spelling(overload: Any) -> Spelling | None:
    """How an ``aten`` operation is called by the name a user would write; None if it has none.

    Args:
        overload: ``torch.ops.aten.relu.default``, or a packet of overloads such as ``torch.ops.aten.relu``.
    """
    if not isinstance(overload, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return None
    namespace, base, *variant = str(overload).split(".")  # aten.view.default
    if namespace != "aten" or "out" in variant:
        return None
    return _SPELLINGS.get(".".join((base, *variant))) or _SPELLINGS.get(base) or _by_name(base, overload)


def mode_argument(overload: Any) -> int | None:
    """The position of the argument that says whether the model is in training mode, if the operation has one."""
    if not isinstance(overload, torch._ops.OpOverload):
        return None
    names = [argument.name for argument in overload._schema.arguments]
    return next((names.index(name) for name in ("train", "training") if name in names), None)


def spells(*names: str) -> Callable[[Spelling], Spelling]:
    """Enter the spelling of overloads (``slice.Tensor``) or of all overloads of a name (``embedding``)."""

    def enter(function: Spelling) -> Spelling:
        for name in names:
            _SPELLINGS[name] = function
        return function

    return enter


def _by_name(name: str, overload: Any) -> Spelling | None:
    """The method or function of the same name, where its arguments are in the same order; those with a record first."""
    if name in _FACTORIES:
        return lambda *args, **kwargs: getattr(torch, name)(*args, **_plain(kwargs))
    method = getattr(torch.Tensor, name, None)
    of_self = not isinstance(overload, torch._ops.OpOverload) or _first_argument(overload) == "self"
    by_method = of_self and (isinstance(method, MethodDescriptorType) or name in _PYTHON_METHODS)
    functions = _functions(name)
    known = next((f for f in functions if REGISTRY.function(f) is not None), None)
    if by_method and (REGISTRY.method(name) is not None or known is None):
        return _method_spelling(name, known)
    function = known or next(iter(functions), None)
    if function is None:
        return _in_place(name)
    return lambda *args, **kwargs: function(*args, **_plain(kwargs))


def _first_argument(overload: torch._ops.OpOverload) -> str:
    return next((argument.name for argument in overload._schema.arguments), "")


def _functions(name: str) -> list[Spelling]:
    found = [getattr(space, name, None) for space in (torch, F, torch._C._nn)]
    same = F if name in _SAME_ORDER else None
    return [f for f in found if isinstance(f, BuiltinFunctionType) or (same is not None and f is getattr(same, name))]


def _method_spelling(name: str, function: Spelling | None) -> Spelling:
    def call(first: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(first, (int, float)) and function is not None:  # torch.pow(2, x)
            return function(first, *args, **_plain(kwargs))
        return getattr(first, name)(*args, **_plain(kwargs))

    return call


def _in_place(name: str) -> Spelling | None:
    """``silu_`` and its like: the function with ``inplace=True``."""
    base = name.removesuffix("_")
    if base == name or base not in _SAME_ORDER:
        return None
    return lambda *args: getattr(F, base)(*args, inplace=True)


def _plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if v is not None and k not in _IGNORED}


# ---------------------------------------------------------------------- sizes and indices


@spells("sym_size.int")
def _size(x: Any, dim: int) -> Any:
    return x.size(dim)


@spells("sym_numel")
def _numel(x: Any) -> Any:
    return x.numel()


@spells("sym_stride.int")
def _stride(x: Any, dim: int) -> Any:
    return x.stride(dim)


@spells("sym_storage_offset")
def _storage_offset(x: Any) -> Any:
    return x.storage_offset()


@spells("slice.Tensor")
def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    end = None if isinstance(end, int) and end >= _NO_LIMIT else end
    start = None if isinstance(start, int) and start == 0 else start
    if start is None and end is None and isinstance(step, int) and step == 1:
        return x
    picked = slice(start, end, None if isinstance(step, int) and step == 1 else step)
    return x[(*[slice(None)] * (dim % x.dim()), picked)]


@spells("select.int")
def _select(x: Any, dim: int, index: Any) -> Any:
    return x[(*[slice(None)] * (dim % x.dim()), index)]


@spells("copy_")
def _copy_(x: Any, source: Any, non_blocking: bool = False) -> Any:
    return _write(x, source) if _is_slice(x) else x.copy_(source)


@spells("fill_.Scalar", "fill_.Tensor")
def _fill_(x: Any, value: Any) -> Any:
    return _write(x, value) if _is_slice(x) else x.fill_(value)


@spells("zero_")
def _zero_(x: Any) -> Any:
    return _write(x, 0) if _is_slice(x) else x.zero_()


def _is_slice(x: Any) -> bool:
    """Whether ``x`` is ``base[index]`` of a tensor."""
    node = x.node
    return node.target is operator.getitem and isinstance(node.args[0].meta["val"], torch.Tensor)


def _write(x: Any, value: Any) -> Any:
    """``base[index] = value`` where ``x`` is ``base[index]``."""
    x.tracer.proxy(x.node.args[0])[x.node.args[1]] = value
    return x


def _entries(indices: Any) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


@spells("index.Tensor")
def _index(x: Any, indices: Any) -> Any:
    return x[_entries(indices)]


@spells("index_put_")
def _index_put_(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    if accumulate:
        return x.index_put_(indices, values, accumulate)
    x[_entries(indices)] = values
    return x


@spells("index_put")
def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    return _index_put_(x.clone(), indices, values, accumulate)


# ---------------------------------------------------------------------- movement, joining


@spells("view.default", "_unsafe_view")
def _view(x: Any, size: Any) -> Any:
    """A reshape: where an attention kernel has left the heads depends on the device, and ``contiguous`` was left out."""
    return x.reshape(size)


@spells("detach_")
def _detach(x: Any) -> Any:
    return x.detach()


@spells("alias", "lift_fresh")
def _alias(x: Any) -> Any:
    return x


@spells("lift_fresh_copy")
def _fresh(x: Any) -> Any:
    return x.clone()


@spells("numpy_T")
def _reversed(x: Any) -> Any:
    return x.permute(*reversed(range(x.dim())))


@spells("mT", "matrix_H", "adjoint")
def _matrix_transposed(x: Any) -> Any:
    return x.transpose(-2, -1)


@spells("unsafe_split.Tensor", "unsafe_split_with_sizes", "split_with_sizes", "split_with_sizes_copy")
def _split(x: Any, sizes: Any, dim: int = 0) -> Any:
    return x.split(sizes, dim)


@spells("unsafe_chunk")
def _chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    return x.chunk(chunks, dim)


@spells("meshgrid")
def _meshgrid(tensors: Any, *, indexing: str = "ij") -> Any:
    return torch.meshgrid(*tensors, indexing=indexing)


@spells("to.dtype", "to.device", "to.dtype_layout", "_to_copy")
def _to(x: Any, *args: Any, **kwargs: Any) -> Any:
    """A device or dtype that is computed in the graph is that of the inputs, where ``x`` is already."""
    wanted = [a for a in (*args, kwargs.get("device"), kwargs.get("dtype")) if isinstance(a, (torch.device, torch.dtype))]
    return x.to(*wanted) if wanted else x


@spells("to.other")
def _to_other(x: Any, other: Any, *rest: Any, **kwargs: Any) -> Any:
    return x.type_as(other)


@spells("pad")
def _pad(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    return F.pad(x, pad, mode, value)


def _pad_spelling(mode: str) -> Spelling:
    return lambda x, pad: F.pad(x, pad, mode)


for _size_ in (1, 2, 3):
    spells(f"reflection_pad{_size_}d")(_pad_spelling("reflect"))
    spells(f"replication_pad{_size_}d")(_pad_spelling("replicate"))


# ---------------------------------------------------------------------- elements, reductions


def _bitwise(name: str) -> Spelling:
    return lambda x, other: getattr(x, name)(other)


for _operator in ("and", "or", "xor"):
    spells(f"__{_operator}__")(_bitwise(f"bitwise_{_operator}"))
    spells(f"__i{_operator}__")(_bitwise(f"bitwise_{_operator}_"))


@spells("scalar_tensor")
def _scalar(value: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
    return torch.full((), value, **_plain({"dtype": dtype, "device": device}))


@spells("log_sigmoid")
def _log_sigmoid(x: Any) -> Any:
    return F.logsigmoid(x)


@spells("elu")
def _elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    if scale == 1 and input_scale == 1:
        return F.elu(x, alpha)
    return F.elu(x * input_scale, alpha) * scale


@spells("dropout")
def _dropout(x: Any, p: float, train: Any) -> Any:
    return F.dropout(x, p, train)


@spells("dropout_")
def _dropout_(x: Any, p: float, train: Any) -> Any:
    return F.dropout(x, p, train, inplace=True)


@spells("softmax.int", "_safe_softmax")
def _softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    return F.softmax(x, dim, dtype=dtype)


@spells("log_softmax.int")
def _log_softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    return F.log_softmax(x, dim, dtype=dtype)


@spells("_softmax")
def _plain_softmax(x: Any, dim: int, half_to_float: bool) -> Any:
    return F.softmax(x, dim)


@spells("_log_softmax")
def _plain_log_softmax(x: Any, dim: int, half_to_float: bool) -> Any:
    return F.log_softmax(x, dim)


@spells("linalg_vector_norm")
def _vector_norm(x: Any, order: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return torch.linalg.vector_norm(x, order, dim, keepdim, dtype=dtype)


# ---------------------------------------------------------------------- layers


@spells("einsum")
def _einsum(equation: str, tensors: Any, *, path: Any = None) -> Any:
    return torch.einsum(equation, *tensors)


@spells("embedding")
def _embedding(weight: Any, indices: Any, padding_idx: int = -1, *rest: Any) -> Any:
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx)


@spells("convolution")
def _convolution(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, extra: Any, groups: int
) -> Any:
    spatial = weight.dim() - 2
    if transposed:
        function = getattr(F, f"conv_transpose{spatial}d")
        return function(x, weight, bias, stride, padding, extra, groups, dilation)
    return getattr(F, f"conv{spatial}d")(x, weight, bias, stride, padding, dilation, groups)


@spells("batch_norm")
def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: Any, momentum: float, eps: float, cudnn: bool
) -> Any:
    return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)


@spells("instance_norm")
def _instance_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, use_input_stats: bool, momentum: float, eps: float, cudnn: bool
) -> Any:
    return F.instance_norm(x, mean, var, weight, bias, use_input_stats, momentum, eps)


@spells("layer_norm")
def _layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn: bool = True) -> Any:
    return F.layer_norm(x, shape, weight, bias, eps)


@spells("group_norm")
def _group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn: bool = True
) -> Any:
    return F.group_norm(x, groups, weight, bias, eps)


@spells("rms_norm")
def _rms_norm(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    return F.rms_norm(x, shape, weight, eps)


@spells("im2col")
def _im2col(x: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    return F.unfold(x, kernel, dilation, padding, stride)


@spells("col2im")
def _col2im(x: Any, size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    return F.fold(x, size, kernel, dilation, padding, stride)


def _pool_with_indices(spatial: int) -> Spelling:
    return lambda x, *args: getattr(F, f"max_pool{spatial}d_with_indices")(x, *args)


def _adaptive_max_pool(spatial: int) -> Spelling:
    return lambda x, size: getattr(F, f"adaptive_max_pool{spatial}d_with_indices")(x, size)


for _size_ in (1, 2, 3):
    spells(f"max_pool{_size_}d_with_indices")(_pool_with_indices(_size_))
    spells(f"adaptive_max_pool{_size_}d")(_adaptive_max_pool(_size_))


def _upsample(mode: str) -> Spelling:
    """The nearest modes have no ``align_corners``."""

    def call(x: Any, size: Any, *rest: Any) -> Any:
        *align, factors = rest
        return F.interpolate(x, size, factors, mode, *align)

    return call


for _name, _mode in {
    "upsample_nearest1d": "nearest", "upsample_nearest2d": "nearest", "upsample_nearest3d": "nearest",
    "_upsample_nearest_exact1d": "nearest-exact", "_upsample_nearest_exact2d": "nearest-exact",
    "_upsample_nearest_exact3d": "nearest-exact", "upsample_linear1d": "linear", "upsample_bilinear2d": "bilinear",
    "upsample_trilinear3d": "trilinear", "upsample_bicubic2d": "bicubic",
}.items():  # fmt: skip
    spells(f"{_name}.vec")(_upsample(_mode))


def _smooth(mode: str) -> Spelling:
    """Interpolation with antialiasing."""

    def call(x: Any, size: Any, align_corners: bool, factors: Any = None) -> Any:
        return F.interpolate(x, size, factors, mode, align_corners, antialias=True)

    return call


spells("_upsample_bilinear2d_aa.vec")(_smooth("bilinear"))
spells("_upsample_bicubic2d_aa.vec")(_smooth("bicubic"))


@spells("grid_sampler")
def _grid_sampler(x: Any, grid: Any, mode: int, padding: int, align_corners: bool) -> Any:
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    return F.grid_sample(x, grid, modes[mode], paddings[padding], align_corners)


# ---------------------------------------------------------------------- checks


@spells(
    "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range",
    "sym_constrain_range_for_size",
)  # fmt: skip
def _check(*args: Any, **kwargs: Any) -> None:
    """Checks of the example's own sizes and values."""
