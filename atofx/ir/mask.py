"""The mask: which units of which group are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from atofx.errors import FileError, MaskError
from atofx.ir.files import write_whole

_FORMAT = "atofx-mask/1"


class Mask(Mapping[str, torch.Tensor]):
    """Group name -> boolean vector over the group's units (True = keep). Frozen; JSON in and out.

    Raises:
        MaskError: a vector is not one-dimensional and boolean (or exactly 0/1).
    """

    def __init__(self, vectors: Mapping[str, torch.Tensor]) -> None:
        self._vectors = {name: _as_bool(name, vector) for name, vector in vectors.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._vectors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask) or set(self) != set(other):
            return False
        return all(torch.equal(self[name], other[name]) for name in self)

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        kept = sum(self.kept.values())
        return f"Mask({len(self)} groups, {kept} of {sum(v.numel() for v in self._vectors.values())} units kept)"

    @property
    def kept(self) -> dict[str, int]:
        """Number of kept units per group."""
        return {name: int(vector.sum()) for name, vector in self._vectors.items()}

    def to_json(self) -> str:
        """The mask as JSON text: sizes and the indices of the dropped units."""
        groups = {
            name: {"size": vector.numel(), "dropped": (~vector).nonzero().flatten().tolist()}
            for name, vector in sorted(self._vectors.items())
        }
        return json.dumps({"format": _FORMAT, "groups": groups})

    @classmethod
    def from_json(cls, text: str) -> Mask:
        """Read what :meth:`to_json` wrote.

        Raises:
            FileError: the text is not a mask.
        """
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise FileError(f"not a mask of format {_FORMAT!r}: format is {data['format']!r}")
            vectors = {}
            for name, entry in dict(data["groups"]).items():
                size, dropped = entry["size"], entry["dropped"]
                _check_entry(name, size, dropped)
                vector = torch.ones(size, dtype=torch.bool)
                vector[torch.tensor(dropped, dtype=torch.long)] = False
                vectors[name] = vector
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: no memory for such a size
            problem = f"{type(error).__name__}: {error}"
            raise FileError(f"not a mask in JSON ({problem}); write one with Mask.save") from error
        return cls(vectors)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as JSON, at once or not at all.

        Raises:
            FileError: it cannot be written.
        """
        write_whole(Path(path), self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Mask:
        """Read a mask from a JSON file.

        Raises:
            FileError: the file is missing or is not a mask.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot read the mask {os.fspath(path)!r}: {error}") from error
        except UnicodeDecodeError as error:
            raise FileError(f"{os.fspath(path)!r} is no text; a mask is the JSON that Mask.save writes") from error
        try:
            return cls.from_json(text)
        except FileError as error:
            raise FileError(f"{os.fspath(path)}: {error}") from error


def _check_entry(name: str, size: Any, dropped: Any) -> None:
    """Refuse what :meth:`Mask.to_json` never writes, such as indices counted from the end.

    Raises:
        ValueError: it is.
    """
    if type(size) is not int or size < 1:
        raise ValueError(f"the size of group {name!r} is {size!r}, not a number of units")
    if not isinstance(dropped, list) or not all(type(index) is int and 0 <= index < size for index in dropped):
        raise ValueError(f"dropped units of group {name!r} are a list of indices from 0 to {size - 1}, not {dropped!r}")


def _as_bool(name: str, vector: Any) -> torch.Tensor:
    if not isinstance(vector, torch.Tensor) or vector.dim() != 1:
        raise MaskError(f"the mask of group {name!r} is not a one-dimensional tensor: {vector!r}")
    if vector.dtype != torch.bool:
        if not bool(((vector == 0) | (vector == 1)).all()):
            raise MaskError(f"the mask of group {name!r} holds values other than 0 and 1; a Mask is boolean")
        vector = vector != 0
    copied: torch.Tensor = vector.detach().cpu().clone()
    return copied
