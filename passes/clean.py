"""Module -> the same function in eval mode, ready for inference: norms folded, weights dense in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from atofx.ir.copies import deepcopy
from atofx.passes.base import attribute
from atofx.passes.hooks import has_forward_hooks

#: Convolution -> the norm that can be folded into it.
_PAIRS: Mapping[type[nn.Module], type[nn.Module]] = MappingProxyType(
    {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
)


def clean(module: nn.Module) -> nn.Module:
    """A copy in eval mode without the batch norms that follow a convolution, every tensor of it dense in memory.

    Tensors in channels-last order stay in it. Graph modules, and those inside of other modules, are folded; code that
    is no graph keeps its norms. The norm's running statistics are fixed in the result: it is not for training.

    Args:
        module: dense or compact; it is left as it was.
    """
    result = deepcopy(module).eval()
    graphs = [inner for inner in result.modules() if isinstance(inner, fx.GraphModule)]
    called = Counter(id(inner.get_submodule(str(n.target))) for inner, n in _nodes(graphs, "call_module"))
    read = {id(attribute(inner, str(n.target))) for inner, n in _nodes(graphs, "get_attr")}
    for inner in graphs:
        _fold_norms(inner, once={key for key, times in called.items() if times == 1}, read=read)
    _make_dense(result)
    return result


def _nodes(graphs: list[fx.GraphModule], op: str) -> list[tuple[fx.GraphModule, fx.Node]]:
    return [(inner, node) for inner in graphs for node in inner.graph.nodes if node.op == op]


def _fold_norms(module: fx.GraphModule, *, once: set[int], read: set[int]) -> None:
    """Fold where the convolution is called once and nothing but the norm reads its result, nothing else its weight."""
    for _, node in _nodes([module], "call_module"):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        conv, norm = module.get_submodule(str(source.target)), module.get_submodule(str(node.target))
        if id(conv) in once and _foldable(conv, norm) and not read & {id(conv.weight), id(conv.bias)}:
            module.set_submodule(str(source.target), fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var, arg-type]
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    module.recompile()


def _foldable(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether these are a plain convolution and the batch norm for it, and nothing of the user's is hooked to them."""
    if _PAIRS.get(type(conv)) is not type(norm) or getattr(norm, "running_mean", None) is None:
        return False
    return not any(map(has_forward_hooks, (conv, norm)))


def _make_dense(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.clone(memory_format=torch.preserve_format)
