"""Program, candidate widths and depths -> module that mixes narrower and shallower versions of the network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, fx, nn

from atofx.errors import ConfigError
from atofx.gates import ChoiceBank, DepthMixture, GateBank, NormMixture, SizeCheck, WidthMixture, Widths
from atofx.gates.mixtures import BatchNorm
from atofx.ir.analysis import Analysis
from atofx.ir.blocks import Stage
from atofx.ir.graph_module import GraphModule
from atofx.ir.groups import Group
from atofx.ir.lineage import GatePoint
from atofx.ir.values import TensorValue
from atofx.passes.gate import Gated, attributes_of, copied, emit, line_of, make_gate, units_along
from atofx.passes.gate_places import place
from atofx.passes.input_sizes import sized_groups, sizes_of_masked


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


class MixedModule(Mixed, GraphModule):
    """A graph with mixtures."""


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
    gates = GateBank({g.name: g.size for g in analysis.groups if g.prunable})
    choices = ChoiceBank(widths, depths)
    added: dict[str, nn.Module] = {}
    norms = {node: places for node in source.graph.nodes if (places := _at_norm(analysis, node, widths))}
    elsewhere = set(widths) - {name for places in norms.values() for name in places}
    placed = place(analysis, "norms")
    ends = {stage.values[-1]: stage for stage in stages if stage.name in depths}
    sized = sized_groups(analysis)
    fixed = sizes_of_masked(analysis)

    def close(point: GatePoint, value: fx.Node) -> fx.Node:
        value = emit(graph, added, _before_mixing(analysis, choices, point, elsewhere), value)
        return emit(graph, added, make_gate(analysis, gates, point), value)

    for node in source.graph.nodes:
        replaced: dict[fx.Node, fx.Node] = {}
        for point in placed.before.get(node, ()):
            replaced[point.value] = close(point, replaced.get(point.value, env[point.value]))
        if node in norms:
            norm = source.get_submodule(str(node.target))
            assert isinstance(norm, BatchNorm)
            new = emit(graph, added, NormMixture(choices, norm, norms[node]), env[node.all_input_nodes[0]])
        else:
            new = copied(graph, node, env, replaced)
        if node in fixed:
            new = emit(graph, added, SizeCheck(gates, sized, fixed[node]), new)
        for point in placed.behind.get(node, ()) if node not in norms else ():
            new = close(point, new)
        if node in ends:
            stage = ends[node]
            env[node] = new
            values = [env[stage.values[stage.kept_blocks(depth)]] for depth in depths[stage.name]]
            added[f"depths_{len(added)}"] = DepthMixture(choices, stage.name)
            new = graph.call_module(next(reversed(added)), tuple(values))
        env[node] = new
    module = MixedModule(attributes_of(graph, source, added), graph, type(source).__name__)
    module.gates, module.choices = gates, choices
    module.training = source.training
    return module


def check_candidates(
    groups: Sequence[Group],
    stages: Sequence[Stage],
    widths: Mapping[str, Sequence[int]],
    depths: Mapping[str, Sequence[int]],
) -> None:
    """Make sure that there are such widths and depths.

    Raises:
        ConfigError: there are not, or they do not rise.
    """
    sizes = {group.name: range(1, group.size + 1) for group in groups if group.prunable}
    possible = {stage.name: stage.depths for stage in stages}
    for what, given, known in (("group", widths, sizes), ("stage", depths, possible)):
        for name, numbers in given.items():
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.0)
                hint = f"; the nearest is {near[0]!r}" if near else f"; the model has no {what} to choose for"
                raise ConfigError(f"no {what} {name!r}{hint}")
            rising = list(numbers) == sorted(set(numbers)) and len(numbers) > 0
            if not rising or not set(numbers) <= set(known[name]):
                limits = f"from {known[name][0]} to {known[name][-1]}"
                raise ConfigError(f"candidates of {what} {name!r} rise and lie {limits}, not {list(numbers)}")


def _at_norm(analysis: Analysis, node: fx.Node, names: Collection[str]) -> dict[str, Tensor]:
    """Where the units of these groups lie among the channels of a batch norm; nothing for other nodes."""
    module = analysis.blueprint.attributes.get(str(node.target)) if node.op == "call_module" else None
    value = analysis.lineage.values.get(node)
    if not isinstance(module, BatchNorm) or not isinstance(value, TensorValue):
        return {}
    layer = value.layer_on(1)
    return {} if layer is None or layer.dims != (1,) else _places(analysis, layer.ids.reshape(-1), names)


def _before_mixing(
    analysis: Analysis, choices: ChoiceBank, point: GatePoint, names: Collection[str]
) -> WidthMixture | None:
    """The mixture of these groups before an operation that mixes their channels; None where none of them lies."""
    line = line_of(analysis, point.layer)
    places = {} if line is None else _places(analysis, line.ids, names)
    return None if line is None or not places else WidthMixture(choices, line.dim, line.ids.numel(), places)


def _places(analysis: Analysis, ids: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """By group, int64 (units, places of each); without groups whose units have different numbers of places."""
    found = {}
    for name, (position, unit) in units_along(analysis, ids).items():
        counts = torch.bincount(unit)
        if name in names and bool((counts == counts[0]).all()) and int(counts[0]) > 0:
            size = next(group.size for group in analysis.groups if group.name == name)
            if len(counts) == size:
                found[name] = position[torch.argsort(unit, stable=True)].reshape(size, -1)
    return found
