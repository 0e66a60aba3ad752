"""Overloads of ``torch.ops.aten`` whose arguments differ from those of the function or method with the record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx.node import map_arg
from torch.nn import functional as F

Spelling = Callable[..., Any]

#: ``slice.Tensor`` or ``embedding`` -> a function of the overload's arguments that calls what a user would write.
SPELLINGS: dict[str, Spelling] = {}
#: Arguments that say nothing of the result's values, or their only supported value.
_IGNORED = frozenset({"layout", "pin_memory", "implicit", "non_blocking", "copy"})
_NO_LIMIT = 2**63 - 1


def spells(*names: str) -> Callable[[Spelling], Spelling]:
    """Enter the spelling of overloads (``slice.Tensor``) or of all overloads of a name (``embedding``)."""

    def enter(function: Spelling) -> Spelling:
        for name in names:
            SPELLINGS[name] = function
        return function

    return enter


def plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that say something of the result."""
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
    return x[(slice(None),) * (dim % x.dim()) + (picked,)]


@spells("select.int")
def _select(x: Any, dim: int, index: Any) -> Any:
    return x[(slice(None),) * (dim % x.dim()) + (index,)]


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
    base, index = map_arg(x.node.args, x.tracer.proxy)
    base[index] = value
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
    """A reshape: export leaves out a ``contiguous`` that its example does not need, other kernels and devices may."""
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
    wanted = [
        a for a in (*args, kwargs.get("device"), kwargs.get("dtype")) if isinstance(a, (torch.device, torch.dtype))
    ]
    switches = [a for a in args if isinstance(a, bool)]  # non_blocking, copy
    more: dict[str, Any] = {}
    if kwargs.get("copy", len(switches) > 1 and switches[1]):
        more["copy"] = True
    if kwargs.get("memory_format") not in (None, torch.preserve_format):
        more["memory_format"] = kwargs["memory_format"]
    return x.to(*wanted, **more) if wanted or more else x


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
    return torch.full((), value, **plain({"dtype": dtype, "device": device}))


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


# ---------------------------------------------------------------------- checks


@spells(
    "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range",
    "sym_constrain_range_for_size",
)  # fmt: skip
def _check(*args: Any, **kwargs: Any) -> None:
    """Checks of the example's own sizes and values."""
