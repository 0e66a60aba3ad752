"""Recurrent layers: the input side can be cut, the state is kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from atofx.ir.values import TensorValue, unlabelled
from atofx.ops.arguments import argument_node
from atofx.ops.context import LineageContext
from atofx.ops.registry import REGISTRY, OpRecord
from atofx.ops.resize import Resizer


def recurrent(ctx: LineageContext, input: TensorValue, *state: Any, **kwargs: Any) -> Any:
    """RNN, LSTM, GRU (and their cells): columns of the first layer's input weights follow the input's channels."""
    module = ctx.module
    assert isinstance(module, (nn.RNNBase, nn.RNNCellBase))
    ctx.pin_value((state, kwargs), "is the state of a recurrent layer")
    x = ctx.confine(input, [input.ndim - 1], "a recurrent layer runs along it")
    first = ("weight_ih_l0", "weight_ih_l0_reverse", "weight_ih")
    layer = x.layer_on(x.ndim - 1)
    for name, _ in module.named_parameters():
        axes = ctx.module_leaf(name)
        assert axes is not None
        for labelled in axes.layers:
            if name in first and labelled.dims == (1,):
                ctx.mark_consumed(labelled.labels)
                if layer is None:
                    ctx.pin(labelled, "reads channels that are always kept")
                else:
                    ctx.unify(labelled.ids.reshape(-1), layer.ids.reshape(-1), "reads channels that are always kept")
            else:
                ctx.pin(labelled, "belongs to the state of a recurrent layer, which is kept whole")

    width, state_width = x.shape[-1], module.hidden_size
    ctx.cost([] if layer is None else [layer.labels], share=(width, width + state_width))
    ctx.cost([], share=(state_width, width + state_width))
    if layer is not None:
        ctx.require_zero(layer)
        source = argument_node(ctx.node, 0, "input")
        if source is not None:
            ctx.gate(source, layer)
    return unlabelled(ctx.out)


def configure_recurrent(module: nn.Module, resizer: Resizer, node: fx.Node) -> None:
    """The input size follows the first layer's weight; the flat list of weights is rebuilt."""
    assert isinstance(module, (nn.RNNBase, nn.RNNCellBase))
    weight = module.weight_ih_l0 if isinstance(module, nn.RNNBase) else module.weight_ih
    assert isinstance(weight, Tensor)
    module.input_size = weight.shape[1]
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


REGISTRY.add(
    OpRecord("recurrent layer", recurrent),
    modules=[nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell],
    configure=configure_recurrent,
)
