"""Channels that are constant, but not zero, once they are dropped: a bias takes up what they contribute."""

from __future__ import annotations

import torch
from torch import fx, nn

from atofx.ops.resize import Resizer

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def takes_up_constants(module: nn.Module | None) -> bool:
    """Whether a constant channel adds the same amount to every element of an output channel, and there is a bias.

    A convolution that pads with zeros sees less of the constant at the border.
    """
    if module is None or module._parameters.get("weight") is None or module._parameters.get("bias") is None:
        return False
    if not isinstance(module, _CONVOLUTIONS):
        return isinstance(module, nn.Linear)
    if module.groups != 1:
        return False
    return module.padding_mode != "zeros" or module.padding == "valid" or set(module.padding) == {0}


def fold_constants(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """Add to the compact module's bias what the dropped channels of its input contribute: constant times weight."""
    for fold in resizer.lineage.folds:
        if fold.node is not node:
            continue
        contribution = torch.where(resizer.is_kept(fold.ids), 0.0, fold.constants)
        if not bool(contribution.any()):
            continue
        name = str(node.target)
        source = resizer.source.get_submodule(name)
        assert isinstance(source, (nn.Linear, *_CONVOLUTIONS))
        assert isinstance(module, (nn.Linear, *_CONVOLUTIONS))
        assert module.bias is not None
        weight = source.weight.detach().double().reshape(*source.weight.shape[:2], -1).sum(-1)
        added = weight @ contribution.to(weight.device)
        kept = resizer.kept_axes(f"{name}.bias", 1)[0]
        if kept is not None:
            added = added[kept.to(added.device)]
        module.bias.copy_(module.bias.double() + added)
