"""Program, candidate widths and depths -> module that mixes narrower and shallower versions of the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from atofx.errors import ConfigError
from atofx.gates import ChoiceBank, DepthMixture, GateBank, NormMixture, WidthMixture, Widths
from atofx.ir.analysis import Analysis
from atofx.ir.blocks import Stage
from atofx.ir.lineage import GatePoint
from atofx.ir.values import TensorValue
from atofx.passes.gate import Gated, attributes_of, emit, make_gate, units_along
from atofx.passes.gate_places import place


class Mixed(Gated):
    """A network whose groups have mixtures of widths, and whose stages mixtures of depths.

    Of a width ``c`` the first ``c`` units of the group are there. One width alone gives what the mask that keeps them
    gives; one depth alone what the network without the last blocks of that stage gives. Parameters are shared with the
    module it was made from, but for norms, of which every width has its own.
    """

    choices: ChoiceBank

    def choose(self, widths: Mapping[str, Widths], depths: Mapping[str, Tensor]) -> None:
        """Compute this from now on; gradients reach the weights.

        Args:
            widths: by group name; a group without one has its largest candidate.
            depths: by stage name, the weights of its candidates; a stage without them has its largest.

        Raises:
            ConfigError: something else than there is to choose from.
        """
        self.choices.set_widths(widths)
        self.choices.set_depths(depths)
        mask = {}
        for name in self.choices.candidates:
            chosen = self.choices.widths_of(name)
            size = self.gates.sizes[name]
            if max(chosen.counts) < size:
                mask[name] = torch.arange(size, device=chosen.weights.device) < max(chosen.counts)
        self.gates.set(mask)


class MixedModule(Mixed, fx.GraphModule):
    """A graph with mixtures."""

    def __deepcopy__(self, memo: dict[int, Any]) -> MixedModule:
        result = super().__deepcopy__(memo)
        assert isinstance(result, MixedModule)
        result.gates = copy.deepcopy(self.gates, memo)
        result.choices = copy.deepcopy(self.choices, memo)
        return result


def mix(
    analysis: Analysis,
    stages: Sequence[Stage],
    widths: Mapping[str, Sequence[int]],
    depths: Mapping[str, Sequence[int]],
) -> MixedModule:
    """The traced module with mixtures of widths at its norms, or before what mixes channels, and of depths.

    A group with batch norms is mixed right behind each of them, every width with a norm of its own; one without any
    before every operation that mixes its channels. There, and wherever channels of a group arrive on other ways, gates
    close all units beyond the widest.

    Args:
        analysis: the analysed model.
        stages: those that are mixed over depths.
        widths: by group name, candidate numbers of units, rising.
        depths: by stage name, candidate depths, rising.
    """
    source = analysis.module
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    gates = GateBank({g.name: g.size for g in analysis.groups if g.prunable and g.name in widths})
    choices = ChoiceBank(widths, depths)
    norms = {
        node: places for node in source.graph.nodes if (places := _norm_places(analysis, node, widths)) is not None
    }
    behind_norms = {name for places in norms.values() for name in places}
    placed = place(analysis, "norms")
    added: dict[str, nn.Module] = {}
    ends = {stage.values[-1]: stage for stage in stages if stage.name in depths}
    for node in source.graph.nodes:
        replaced: dict[fx.Node, fx.Node] = {}
        for point in placed.before.get(node, ()):
            value = replaced.get(point.value, env[point.value])
            mixture = _width_mixture(analysis, choices, point, set(widths) - behind_norms)
            value = emit(graph, added, mixture, value)
            replaced[point.value] = emit(graph, added, make_gate(analysis, gates, point, widths), value)
        if node in norms:
            norm = source.get_submodule(str(node.target))
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
            new = emit(graph, added, NormMixture(choices, norm, norms[node]), env[node.all_input_nodes[0]])
        else:
            new = graph.node_copy(node, lambda n, swap=replaced: swap.get(n, env[n]))  # type: ignore[misc]
        for point in placed.behind.get(node, ()):
            left = set(widths) - set(norms.get(node, ()))
            new = emit(graph, added, _width_mixture(analysis, choices, point, left - behind_norms), new)
            new = emit(graph, added, make_gate(analysis, gates, point, left), new)
        if node in ends:
            stage = ends[node]
            earlier = [env[stage.values[stage.kept_blocks(depth)]] for depth in depths[stage.name][:-1]]
            last = depths[stage.name][-1]
            ...
        env[node] = new
    module = MixedModule(attributes_of(graph, source, added), graph, type(source).__name__)
    module.gates, module.choices = gates, choices
    module.training = source.training
    return module
