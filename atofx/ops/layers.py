"""Pure functions on id tensors: compress, expand, reshape, run an op on ids. No graph, no state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from atofx.ir.values import ANYTHING, Layer, Run


def encode(layer: Layer, shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids and values at rest in one int64 tensor, expanded to ``shape``; the table of values it points to)."""
    if isinstance(layer.at_rest, float) and (layer.at_rest == 0 or math.isnan(layer.at_rest)):
        return layer.ids.expand(tuple(shape)), torch.tensor([layer.at_rest], dtype=torch.float64)
    known = torch.unique(layer.rest[~layer.rest.isnan()])
    table = torch.cat([known, torch.tensor([ANYTHING], dtype=torch.float64)])
    entry = torch.where(layer.rest.isnan(), known.numel(), torch.searchsorted(known, layer.rest.contiguous()))
    code = torch.where(layer.ids < 0, layer.ids, layer.ids * table.numel() + entry)
    return code.expand(tuple(shape)), table


def decode(code: torch.Tensor, table: torch.Tensor) -> Layer:
    """Undo :func:`encode` and compress."""
    code = compress(code.long())
    if table.numel() == 1:
        return Layer(code, float(table))
    ids = torch.where(code < 0, code, code // table.numel())
    return Layer(ids, torch.where(code < 0, ANYTHING, table[code % table.numel()]))


def compress(code: torch.Tensor) -> torch.Tensor:
    """Shrink every dimension along which the values do not vary to size 1."""
    for dim in range(code.dim()):
        if code.shape[dim] <= 1:
            continue
        first = code.narrow(dim, 0, 1)
        if code.stride(dim) == 0 or bool((code == first).all()):
            code = first
    return code


def run_on_ids(layer: Layer, shape: Sequence[int], op: Callable[[torch.Tensor], torch.Tensor]) -> Layer:
    """Move a layer by running the very op on its ids.

    ``op`` runs in float64 where it refuses integers; ids stay exact up to 2**52.
    """
    code, table = encode(layer, shape)
    try:
        moved = op(code)
    except (RuntimeError, NotImplementedError):
        moved = op(code.double())
    return decode(moved, table)


def reshape_layer(layer: Layer, source: Sequence[int], target: Sequence[int]) -> Layer:
    """Reshape a layer without materialising the dimensions it does not vary along.

    The two shapes are cut into the smallest blocks of equal element count; only blocks in which the ids vary are
    expanded.
    """
    code, table = encode(layer, source)
    kept_source: list[int] = []
    out_shape: list[int] = []
    narrow = code
    for dims_in, dims_out in matching_blocks(source, target):
        varies = any(layer.shape[d] > 1 for d in dims_in)
        if varies:
            kept_source.extend(dims_in)
            out_shape.extend(target[d] for d in dims_out)
        else:
            for d in dims_in:
                if narrow.shape[d] > 1:
                    narrow = narrow.narrow(d, 0, 1)
            out_shape.extend(1 for _ in dims_out)
    return decode(narrow.reshape(out_shape), table)


def matching_blocks(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pairs of runs of dimensions of ``source`` and ``target`` with equal products, as short as possible."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(target):
        left: list[int] = []
        right: list[int] = []
        a = b = 1
        if i < len(source):
            a *= source[i]
            left.append(i)
            i += 1
        if j < len(target):
            b *= target[j]
            right.append(j)
            j += 1
        while a != b:
            if (a < b and i < len(source)) or j >= len(target):
                a *= source[i]
                left.append(i)
                i += 1
            else:
                b *= target[j]
                right.append(j)
                j += 1
        blocks.append((left, right))
    return blocks


def align(ids: torch.Tensor, ndim: int) -> torch.Tensor:
    """Prepend size-1 dimensions, as broadcasting does."""
    return ids.reshape((1,) * (ndim - ids.dim()) + tuple(ids.shape)) if ids.dim() < ndim else ids


def align_layer(layer: Layer, ndim: int) -> Layer:
    """:func:`align` for both tensors of a layer."""
    missing = ndim - len(layer.shape)
    return layer.reshaped((1,) * missing + tuple(layer.shape)) if missing else layer


def fresh_layer(start: int, size: int, dim: int, ndim: int, rest: float = 0.0) -> Layer:
    """Ids ``start .. start + size - 1`` along ``dim``."""
    shape = [1] * ndim
    shape[dim] = size
    return Layer(Run(start, dim % ndim, tuple(shape)), rest)
