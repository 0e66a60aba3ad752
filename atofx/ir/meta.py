"""Tensors without values: those on torch's meta device."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from atofx.errors import NoValuesError


def require_values(tensors: Mapping[str, torch.Tensor], purpose: str) -> None:
    """Refuse tensors on the meta device.

    Args:
        tensors: by name.
        purpose: what needs their values, as the beginning of a sentence.

    Raises:
        NoValuesError: there is one.
    """
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    if empty:
        name, more = empty[0], f" and {len(empty) - 1} more are" if len(empty) > 1 else " is"
        raise NoValuesError(
            f"{purpose} needs the model's values, but {name!r} (shape {tuple(tensors[name].shape)}){more} on the meta "
            "device; give the model values first, as by model.to_empty(device='cpu') and model.load_state_dict(...): "
            "the program takes them up"
        )
