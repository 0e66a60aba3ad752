"""Checkpoints: one safetensors file each, the rest as JSON in its header; written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from atofx.errors import FileError
from atofx.ir.tensor_files import write_tensors

_FORMAT = "atofx-checkpoint/1"
_TENSOR, _PAIRS, _TUPLE = "$tensor", "$pairs", "$tuple"


def save(state: Any, path: Path) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, text, booleans and None.

    The file appears under its name only when it is complete and on disk, so a kill at any moment leaves the old one or
    the new one.
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = _pack(state, "", tensors)
    write_tensors(tensors, path, {"format": _FORMAT, "state": json.dumps(skeleton)})


def load(path: Path, device: torch.device) -> Any:
    """What :func:`save` wrote, tensors on ``device``.

    Raises:
        FileError: the file is missing, truncated, or not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise FileError(f"{path} is not a checkpoint of atofx (format {metadata.get('format')!r})")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            return _unpack(json.loads(metadata["state"]), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FileError(f"cannot read the checkpoint {str(path)!r}: {error}") from error


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The model's parameters and buffers from a safetensors file: a training checkpoint, or a plain state dict.

    Raises:
        FileError: the file is truncated, or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != _FORMAT:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path} is not a whole safetensors file: {error}") from error
    state: dict[str, torch.Tensor] = load(path, torch.device("cpu"))["model"]
    return state


def _pack(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        # A copy: safetensors refuses tensors that share memory, as tied weights do.
        tensors[path] = node.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if isinstance(node, dict):
        return {_PAIRS: [[key, _pack(value, f"{path}/{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        items = [_pack(value, f"{path}/{position}", tensors) for position, value in enumerate(node)]
        return {_TUPLE: items} if isinstance(node, tuple) else items
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"a checkpoint cannot hold a {type(node).__name__} (at {path!r})")


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if _TENSOR in node:
        return tensors[node[_TENSOR]]
    if _TUPLE in node:
        return tuple(_unpack(value, tensors) for value in node[_TUPLE])
    return {key: _unpack(value, tensors) for key, value in node[_PAIRS]}
