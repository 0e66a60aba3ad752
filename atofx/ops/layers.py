"""Pure functions on id tensors: compress, expand, reshape, run an op on ids. No graph, no state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from atofx.ir.values import ANYTHING, Layer, Run, run_length


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


def lines_up_by_chance(layer: Layer, source: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether channels among pixels end up on whole rows at this size of the image only.

    Runs are cut safely into a given number of rows that divides the number of channels, or is a multiple of it; so
    are channels that have pixels behind them, in the same step. What is only merged, or keeps its place, is safe too.

    Args:
        layer: of what is reshaped.
        source: its shape.
        wanted: the new one, -1 for a size that is left to torch.
    """
    total = math.prod(source)
    target = [size if size != -1 else total // math.prod(s for s in wanted if s != -1) for size in wanted]
    for dims_in, dims_out in matching_blocks(source, target):
        long = [d for d in dims_in if source[d] > 1]
        given = [wanted[d] for d in dims_out if target[d] > 1]
        if not any(layer.shape[d] > 1 for d in long) or len(given) < 2:
            continue
        if [source[d] for d in long] == [target[d] for d in dims_out if target[d] > 1]:
            continue
        channels = _channels_in_runs(layer, source, long)
        if channels is None or given[0] == -1 or (channels % given[0] and given[0] % channels):
            return True
    return False


def _channels_in_runs(layer: Layer, source: Sequence[int], dims: Sequence[int]) -> int | None:
    """How many channels lie along some dimensions read in order, each in one run; None where they do not.

    All runs are equally long, and every element belongs to a channel.
    """
    others = [d for d in range(len(source)) if d not in dims]
    if any(layer.shape[d] > 1 for d in others):
        return None
    shape = [source[d] if d in dims else 1 for d in range(len(source))]
    flat = layer.ids.expand(shape).reshape(-1)
    length = run_length(flat)
    return None if length is None else flat.numel() // length


def written_down(source: Sequence[int], given: Sequence[object], wanted: Sequence[int]) -> list[int]:
    """The dimensions of ``source`` whose sizes a reshape names by numbers while it leaves another size to torch.

    Args:
        source: the shape of what is reshaped.
        given: the sizes as the model writes them.
        wanted: what they are, -1 for the one that is left to torch.
    """
    if -1 not in wanted or len(given) != len(wanted):
        return []
    total = math.prod(source)
    target = [size if size != -1 else total // math.prod(s for s in wanted if s != -1) for size in wanted]
    found, left = [], list(wanted).index(-1)
    end = 0  # of the dimensions whose growth the size left to torch takes up where it stands
    for dims_in, dims_out in matching_blocks(source, target):
        if dims_out and all(type(given[d]) is int and given[d] != -1 for d in dims_out):
            found += [d for d in dims_in if source[d] > 1]
        if dims_in and left in dims_out[-1:]:
            end = dims_in[-1] + 1
    while end < len(source) and source[end] == 1:
        end += 1
    apart = len(given) - len(source)  # a size that is written as far from the end is that of the dimension
    alone = (d for d in range(end, len(source)) if source[d] == 1)
    return found + [d for d in alone if d + apart < 0 or type(given[d + apart]) is int]


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
