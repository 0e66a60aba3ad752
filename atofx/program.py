"""The Program: everything a user does with a traced model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from atofx.cost import CostModel, build_cost_model, elements_per_unit
from atofx.cost.count import flops_by_node
from atofx.errors import AtofxError, MaskError, PickleError, TraceError
from atofx.ir.analysis import Analysis
from atofx.ir.blocks import Blocks
from atofx.ir.granularity import Granularity, GranularityOption
from atofx.ir.granularity import granularity as read_granularity
from atofx.ir.groups import Group
from atofx.ir.limits import NO_LIMITS, Limits
from atofx.ir.lineage import Pin
from atofx.ir.mask import Mask
from atofx.ir.mask_check import check_names, checked
from atofx.ir.meta import require_values
from atofx.ir.patterns import Patterns, covers
from atofx.ir.sampling import random_mask
from atofx.ir.trace_options import TraceOptions
from atofx.nn import Init, renew_
from atofx.passes.base import collector_paused
from atofx.passes.blocks import find_blocks
from atofx.passes.compact import compact
from atofx.passes.dependency import dependency_graph
from atofx.passes.describe import explain, summarize
from atofx.passes.drop_blocks import drop_blocks, named_blocks
from atofx.passes.duplicate import duplicate
from atofx.passes.follow import Origin, follow
from atofx.passes.gate import Gated, insert_gates
from atofx.passes.gate_places import Places
from atofx.passes.group import form_groups
from atofx.passes.inputs import ExampleInputs, empty_error, has_empty, refuse_if_empty
from atofx.passes.layer_costs import LayerCost, layer_costs
from atofx.passes.lineage import trace_lineage
from atofx.passes.mixture import Mixed, check_candidates, mix
from atofx.passes.outer import rebuild
from atofx.passes.regions import trace_regions
from atofx.passes.restrict import restrict, restriction
from atofx.passes.state_dicts import KeptTensor, dense_state_dict, state_dict_map
from atofx.passes.trace import Frontend, Traced, refuse_more_than_forward, require_layers
from atofx.passes.trace import trace as trace_module
from atofx.passes.verify import VerifyReport, verify
from atofx.passes.widen import Factors, rebuild_wider, widened_sizes
from atofx.passes.zero_mask import zero_mask
from atofx.passes.zeroed import zeroed

SoftMask = Mapping[str, Tensor]


@collector_paused()
def trace(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    frontend: Frontend = "auto",
    strict: bool = False,
    freeze: Patterns = (),
    only: Patterns | None = None,
    granularity: GranularityOption = "heads",
) -> Program:
    """Trace a model and find its groups of coupled channels.

    Where the model cannot be traced whole (control flow on values), it is run once on the example in eval mode, and its
    largest submodules that can be traced become regions: what enters and leaves them stays as it is, and
    :meth:`Program.compact` gives the same model with smaller regions in it.

    Args:
        model: any module; it is left as it was and shares its parameters with the result.
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs; batch size and image size
            of later inputs may differ where the model allows it.
        frontend: ``"symbolic"`` tracing, torch's ``"export"``, or ``"auto"``: symbolic, and export where that cannot.
        strict: raise where an operation has no record instead of keeping the channels that reach it whole.
        freeze: patterns (``*``, ``?``) of parameters, buffers or modules that keep their shapes: ``"stem"`` and
            ``"stem.*"`` mean what is below ``stem``. A group with a coordinate on one of them is not prunable.
        only: patterns likewise; a group is prunable only if each of its producers is covered by one. None: all may be.
        granularity: what attention loses: whole ``"heads"``, or ``"dims"``, one dimension of every head (those of
            queries and keys together, those of values by themselves); or either by pattern on module names.

    Raises:
        ConfigError: a pattern of ``freeze``, ``only`` or ``granularity`` covers nothing; the message offers the nearest
            names. Or an unknown front end.
        ExampleInputError: an example is empty.
        TraceError: the model does not run on the example, or has control flow on values and no submodule that can be
            traced, or its result depends on how tensors lie in memory, or a part of it is compiled by torch.jit.
        UnsupportedOpError: ``strict`` and an operation has no record.
    """
    chosen = restriction(freeze, only)
    origin = Origin(model, dict(require_layers(model)))
    refuse_if_empty(model, example_inputs)
    try:
        traced = trace_module(model, example_inputs, frontend)
        refuse_more_than_forward(model)
    except TraceError as error:
        if frontend != "auto":
            raise
        traced = trace_regions(model, example_inputs, error)
    attention = read_granularity(granularity, (name for name, _ in model.named_modules()))
    options = TraceOptions(chosen.freeze, chosen.only, attention.choices, traced.capture.frontend)
    try:
        return replace(analysed(traced, options, strict=strict), origin=origin)
    except AtofxError:
        raise
    except Exception as error:  # sizes of nothing are divided by, or looked at, in many ways
        if not has_empty(example_inputs):
            raise
        raise empty_error(model, example_inputs) from error


def analysed(traced: Traced, options: TraceOptions, *, strict: bool = False) -> Program:
    """The program of a traced model.

    Raises:
        ConfigError: a pattern of the options covers nothing.
        UnsupportedOpError: ``strict`` and an operation has no record.
    """
    lineage = trace_lineage(traced, Granularity(options.granularity), strict=strict)
    grouping = restrict(form_groups(lineage), lineage.tensor_names, restriction(options.freeze, options.only))
    analysis = Analysis(traced.blueprint, lineage, grouping.groups, grouping.group_of, grouping.unit_of)
    return Program(traced, analysis, options)


@dataclass(frozen=True, eq=False)
class Program:
    """A traced model with its groups, costs and transformations. Made by :func:`trace`; never edited.

    FLOPs everywhere are multiply-adds counted once, for the example input. Of a model that is traced in regions they
    are those of the regions, every call counted; what runs outside of them is not counted.

    Where the model has other tensors than when it was traced (``model.to(device)``, ``load_state_dict(assign=True)``),
    those are meant from then on. Where it is another model (a layer was replaced, a shape is another one), everything
    that looks at its tensors raises :class:`~atofx.errors.ModelChangedError`.
    """

    traced: Traced = field(repr=False)
    analysis: Analysis = field(repr=False)
    options: TraceOptions = field(default=TraceOptions(), repr=False)
    origin: Origin | None = field(default=None, repr=False)

    # ---------------------------------------------------------------- copies

    def __copy__(self) -> Program:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        """A program of a copy of the model: it shares no module, parameter or buffer with this one."""
        traced, analysis = duplicate(self.traced, self.analysis, memo)
        return replace(self, traced=traced, analysis=analysis, origin=None)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise PickleError(
            "a Program cannot be pickled, as it is a traced graph of living modules; pickle the model, or what "
            "program.compact and program.gated make, and trace the model again: the groups are the same"
        )

    # ---------------------------------------------------------------- looking

    @property
    def module(self) -> nn.Module:
        """The traced module, a GraphModule; it shares modules and parameters with the user's model.

        Of a model that is traced in regions: the same model, with the graphs of its regions in it.
        """
        self._follow()
        return self._rebuilt

    @cached_property
    def _rebuilt(self) -> nn.Module:
        return rebuild(self.traced, self.analysis.module)

    def _follow(self) -> None:
        """Take up the tensors that the user's model has now."""
        if self.origin is not None and follow(self.traced, self.origin):
            vars(self).pop("_rebuilt", None)

    @property
    def example_inputs(self) -> ExampleInputs:
        """The example inputs, as given to :func:`trace`."""
        return self.traced.inputs

    @property
    def frontend(self) -> str:
        """What captured the graph: ``"symbolic"`` or ``"export"``."""
        return self.traced.capture.frontend

    @property
    def frontend_reason(self) -> str:
        """Why that front end was used, in words."""
        return self.traced.capture.reason

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups, prunable ones first."""
        return self.analysis.groups

    @cached_property
    def prunable(self) -> tuple[Group, ...]:
        """The groups a mask ranges over."""
        return tuple(g for g in self.groups if g.prunable)

    @property
    def notes(self) -> tuple[Pin, ...]:
        """Operations no record describes; what reaches them stays whole."""
        return tuple(p for p in self.analysis.lineage.pins if p.unknown_op)

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The dependency graph: a node per graph node, with all that is known of it.

        :func:`atofx.passes.dependency.dependency_graph` lists the attributes; FLOPs are multiply-adds counted once.
        """
        return dependency_graph(self.analysis, self.cost_model.node_flops)

    @cached_property
    def blocks(self) -> Blocks:
        """Residual blocks ``x + f(x)`` that can be left out as a whole, the stages they form, and why others cannot."""
        return find_blocks(self.analysis)

    def tensor(self, name: str) -> Tensor:
        """The live parameter or buffer of that name in the user's model.

        Raises:
            KeyError: there is none.
        """
        tensor = self.traced.tensors[name]
        if self.origin is not None and not self.origin.holds(name, tensor):
            self._follow()
        return self.traced.tensors[name]

    def require_values(self, purpose: str) -> None:
        """Make sure that the model's tensors have values now: those on torch's meta device have none.

        Args:
            purpose: what needs them, as the beginning of a sentence.

        Raises:
            NoValuesError: one has none; the message says what to do.
        """
        self._follow()
        require_values(self.traced.tensors, purpose)

    def explain(self, name: str) -> str:
        """Which groups hold the axes of a parameter or buffer, or why it cannot be pruned and what would help.

        Raises:
            KeyError: the model has no such parameter or buffer.
        """
        if name not in self.traced.tensors:
            raise KeyError(f"the model has no parameter or buffer {name!r}{self._instead_of(name)}")
        return explain(self.analysis, self.traced, name)

    def _instead_of(self, name: str) -> str:
        """What somebody may have meant by a name that no parameter or buffer has."""
        group = next((group for group in self.groups if group.name == name), None)
        if group is not None:
            return f"; a group has this name, which holds {', '.join(m.name for m in group.members[:3])}, …"
        known = list(self.traced.tensors)
        close = [n for n in known if name in n or n in name][:5] or get_close_matches(name, known, n=3)
        return f"; close: {', '.join(close)}" if close else "; `atofx inspect` and program.summary() show names"

    def summary(self) -> str:
        """A table of the groups, what is pinned and why."""
        return summarize(self.analysis, self.traced, self.flops(), self.params())

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """Write the dependency graph to a file; its suffix says how.

        ``.html`` is one page that needs no network: modules open and close, nodes are coloured by group, everything
        known of a node is shown, and sliders drop units and show FLOPs (multiply-adds counted once) and parameters
        from :attr:`cost_model`. ``.svg`` and ``.png`` are drawn by Graphviz if its program ``dot`` is there, else by
        matplotlib; ``.dot`` is for Graphviz. Both Python packages come with ``pip install 'atofx[draw]'``.

        Args:
            path: the file, replaced if it is there.

        Returns:
            The path.

        Raises:
            ConfigError: another suffix.
            MissingError: what the suffix needs is not installed; the message says what to install.
        """
        from atofx.report.draw import draw  # stands above this file, and is not needed to prune

        return draw(self, path)

    def _repr_html_(self) -> str:
        """The page of :meth:`draw` in a frame, for notebooks."""
        from atofx.report.draw import notebook

        return notebook(self)

    def __repr__(self) -> str:
        units = sum(g.size for g in self.prunable)
        return f"Program({type(self.module).__name__}: {len(self.prunable)} prunable groups, {units} units)"

    # ---------------------------------------------------------------- masks

    def full_mask(self) -> Mask:
        """Keep everything."""
        return Mask({g.name: torch.ones(g.size, dtype=torch.bool) for g in self.prunable})

    def random_mask(self, keep: float = 0.5, seed: int = 0, round_to: int = 1, limits: Limits = NO_LIMITS) -> Mask:
        """Keep ``max(1, round(keep * size))`` random units of every prunable group, or the nearest allowed number.

        Args:
            keep: share of units to keep, in (0, 1].
            seed: of the choice.
            round_to: round the number of kept *channels* to a multiple of this where the group is at least twice that
                wide; short for ``limits=Limits(round_to=..., narrow="free")``.
            limits: minimum widths and rounding.

        Raises:
            MaskError: ``keep`` is not in (0, 1] or ``round_to`` is below 1.
            ConfigError: the limits name ``round_to`` too, or a group that there is not.
        """
        if round_to < 1:
            raise MaskError(f"round_to must be at least 1, got {round_to}")
        return random_mask(self.prunable, keep, seed, limits.rounded(round_to, narrow="free"))

    def zero_mask(self) -> Mask:
        """Drop what is zero already, as sparse training leaves it: every unit with all producers at exactly zero.

        The model computes what ``compact`` of this mask computes. A group that is zero as a whole keeps one unit.

        Raises:
            NoValuesError: the model is on the meta device.
        """
        self.require_values("finding zeros")
        return zero_mask(self.prunable, self.traced.tensors)

    def check_limits(self, mask: SoftMask, limits: Limits) -> None:
        """Make sure that a mask keeps an allowed number of units of every group.

        Raises:
            MaskError: it does not (the message names the nearest allowed numbers), or it does not fit the program.
            ConfigError: the limits name a group that there is not.
        """
        limits.check(self.prunable, self.check_mask(mask))

    def check_mask(self, mask: SoftMask) -> dict[str, Tensor]:
        """The mask's vectors, boolean, one per prunable group.

        Raises:
            MaskError: unknown or missing groups, wrong lengths, values other than 0 and 1, or an empty group.
        """
        return checked(self.prunable, mask)

    # ---------------------------------------------------------------- cost

    @cached_property
    def cost_model(self) -> CostModel:
        """FLOPs and parameters as functions of the mask; counted by fvcore on first use."""
        once = flops_by_node(self.analysis.module, self.traced.arguments())
        nodes = self.analysis.module.graph.nodes
        return build_cost_model(self.analysis, {n.name: once[n.name] * self.traced.times(n) for n in nodes})

    def flops(self, mask: SoftMask | None = None, *, blocks: Mapping[str, bool | float | Tensor] | None = None) -> Any:
        """Multiply-adds (counted once) of one forward pass on the example input.

        Args:
            mask: None for the dense model; a hard mask gives an int, one of float vectors a differentiable float64
                scalar. Groups that it leaves out count as kept whole.
            blocks: by name, how much of a skippable block is there (0: it is left out), such as the probability that
                it is; all others are there. Numbers and booleans, or scalars that are differentiated through.

        Raises:
            ConfigError: there is no such block.
        """
        if not blocks:
            return self._cost(mask, "flops")
        vectors = dict(mask or {})
        check_names(self.prunable, vectors)
        shares = {name: torch.as_tensor(share).to("cpu", torch.float64) for name, share in blocks.items()}
        present = {
            frozenset(node.name for node in (*block.region, block.add)): shares[block.name]
            for block in named_blocks(self.blocks.skippable, shares)
        }
        total = self.cost_model.flops_with(vectors, present)
        is_hard = all(vector.dtype == torch.bool for vector in vectors.values())
        counts = is_hard and all(not share.requires_grad and float(share) in (0.0, 1.0) for share in shares.values())
        return round(float(total)) if counts else total

    def params(self, mask: SoftMask | None = None) -> Any:
        """Number of parameters; masks as in :meth:`flops`."""
        return self._cost(mask, "params")

    def elements_per_unit(self) -> dict[str, float]:
        """Elements that a unit of each prunable group holds in all results of one forward pass on the example.

        Results that operations write to new memory; views and what is computed in place are left aside.
        """
        return elements_per_unit(self.analysis, self.traced.times)

    def flops_by_counts(self, counts: Tensor) -> Tensor:
        """FLOPs of many masks at once: units of a group cost the same, so their number is enough.

        Args:
            counts: (masks, prunable groups), kept units.

        Returns:
            int64 (masks,).
        """
        return self.cost_model.flops_by_counts(counts)

    def _cost(self, mask: SoftMask | None, what: str) -> Any:
        vectors = dict(mask or {})
        check_names(self.prunable, vectors)
        extents = self.cost_model.extents(vectors)
        polynomial = self.cost_model.flops if what == "flops" else self.cost_model.params
        return polynomial.soft(extents) if extents.dtype.is_floating_point else polynomial.exact(extents)

    def layer_costs(self, mask: SoftMask | None = None) -> tuple[LayerCost, ...]:
        """FLOPs (multiply-adds counted once) of every node that has any in the dense model; without a mask, dense.

        Raises:
            MaskError: the mask does not fit.
        """
        counts = self.cost_model.flops_by_node({} if mask is None else self.check_mask(mask))
        return layer_costs(self.analysis.module, counts)

    # ---------------------------------------------------------------- transformations

    def zeroed(self, mask: SoftMask) -> nn.Module:
        """A dense copy with the producers of dropped units at zero.

        Raises:
            MaskError: the mask does not fit.
        """
        self._follow()
        return rebuild(self.traced, zeroed(self.analysis, self.check_mask(mask)))

    def gated(self, mask: SoftMask | None = None, *, places: Places = "consumers") -> Gated:
        """The dense module with gate nodes, open unless ``mask`` is given; it shares parameters with :attr:`module`.

        Args:
            mask: hard or soft.
            places: ``"consumers"``: gates stand before whatever mixes the channels. ``"norms"``: behind the norm and
                before the activation, where all that lies between that norm and what mixes its channels treats every
                channel by itself (not so in sums, depthwise convolutions, squeeze-and-excitation). Hard masks give the
                same either way; soft ones differ where an activation f has f(g x) other than g f(x), as ReLU6 and SiLU.

        Raises:
            MaskError: the mask does not fit.
        """
        self._follow()
        module = rebuild(self.traced, insert_gates(self.analysis, places))
        assert isinstance(module, Gated)
        module.set_mask(mask)
        return module

    def mixed(
        self, widths: Mapping[str, Sequence[int]] | None = None, depths: Mapping[str, Sequence[int]] | None = None
    ) -> Mixed:
        """A network that mixes narrower and shallower versions of this one, by weights that gradients reach.

        :meth:`~atofx.passes.mixture.Mixed.choose` says which. Behind every batch norm, of which each width has its own,
        the chosen widths of a group are interpolated to the widest of them and added up by weight (in a group without
        batch norms: before every operation that mixes its channels). At the end of a stage of residual blocks, so are
        the values after the chosen numbers of blocks.

        Args:
            widths: by group name, numbers of units to choose from, rising; a width is the first so many units.
            depths: by name of ``program.blocks.stages``, depths to choose from, rising; the last blocks go first.

        Returns:
            A module that shares its parameters with :attr:`module`, but for the norms.

        Raises:
            ConfigError: there is no such group, stage, width or depth.
        """
        widths, depths = widths or {}, depths or {}
        check_candidates(self.groups, self.blocks.stages, widths, depths)
        self._follow()
        module = rebuild(self.traced, mix(self.analysis, self.blocks.stages, widths, depths))
        assert isinstance(module, Mixed)
        return module

    def compact(self, mask: SoftMask) -> nn.Module:
        """The module without the dropped units, a GraphModule: own parameters, plain modules, the same qualified names.

        Of a model that is traced in regions: the same model, with smaller regions in it.

        Raises:
            MaskError: the mask does not fit.
        """
        self._follow()
        return rebuild(self.traced, compact(self.analysis, self.check_mask(mask)))

    def widen(self, factors: Factors, *, seed: int = 0, init: Init = "layers") -> nn.Module:
        """The same architecture with more units in some groups and new random weights, a plain GraphModule.

        Every prunable group takes ``int(size * factor)`` units: coupled layers follow, and so do groups of
        convolutions (whole groups where those are units), numbers written in ``view`` or ``split``, norms and
        attention scales. A model widened by 1 has the shapes of this one. Trace the result to prune it;
        :meth:`flops_by_counts` says beforehand what it costs.

        Args:
            factors: one for all prunable groups, or by pattern on group names (``{"layer3.*": 1.5}``); the last that
                covers a group holds, and a group without one stays as it is.
            seed: of the new weights.
            init: how they are drawn (:func:`atofx.nn.renew_`).

        Raises:
            ConfigError: a factor below 1, a pattern without a group, or the wider model does not run on the example
                (the message says where).
        """
        self._follow()
        sizes = self.widened_sizes(factors)
        wide = rebuild_wider(self.traced, self.analysis, sizes)
        renew_(wide, seed=seed, init=init)
        return wide

    def widened_sizes(self, factors: Factors) -> dict[str, int]:
        """Units of every prunable group in the model that :meth:`widen` makes.

        Raises:
            ConfigError: a factor below 1, or a pattern without a group.
        """
        return widened_sizes(self.analysis, factors)

    def without_blocks(self, names: Iterable[str]) -> Program:
        """The program of the model without some of its residual blocks, with parameters of its own.

        It computes what the model does where the branches of these blocks are zero. The blocks and everything in them
        are gone from the graph; groups that lay in them are, too. Patterns of ``freeze`` and ``only`` that cover
        nothing any more have no effect. What :func:`atofx.save` writes of it, :func:`atofx.load` makes from the whole
        model.

        Args:
            names: of ``program.blocks.skippable``.

        Raises:
            ConfigError: there is no such block; the message offers the nearest name.
        """
        self._follow()
        names = tuple(names)
        blocks = named_blocks(self.blocks.skippable, list(names))
        module = rebuild(self.traced, drop_blocks(self.analysis, blocks))
        left = list(dict(module.named_parameters(remove_duplicate=False))) + list(dict(module.named_buffers()))

        def still(patterns: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(pattern for pattern in patterns if any(covers(pattern, name) for name in left))

        options = self.options
        shorter = trace(
            module,
            self.example_inputs,
            freeze=still(options.freeze),
            only=None if options.only is None else still(options.only),
            granularity=dict(options.granularity),
        )
        return replace(shorter, options=replace(options, without=(*options.without, names)))

    def state_dict_map(self, mask: SoftMask) -> dict[str, KeptTensor]:
        """For every parameter and buffer of the user's model: its key in the compact model and the kept indices.

        The compact model's values are those of the kept indices, but for biases that took up constants of dropped
        channels: :meth:`compact` computes these.

        Raises:
            MaskError: the mask does not fit.
        """
        present = set(self.module.state_dict())
        return state_dict_map(self.traced, self.analysis, self.check_mask(mask), present)

    def dense_state_dict(self, mask: SoftMask, compact: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the user's model with which it computes what a compact model with its own weights computes.

        The way back from :meth:`compact`: train the compact model, then ``model.load_state_dict(
        program.dense_state_dict(mask, small.state_dict()))``. The producers of dropped units are zero, and
        ``program.compact(mask)`` gives the trained weights again.

        Args:
            mask: what the compact model keeps.
            compact: its state dict.

        Returns:
            Every parameter and persistent buffer of the model, copies; what the graph does not use as it is now.

        Raises:
            MaskError: the mask does not fit.
            KeyError: ``compact`` lacks a tensor.
        """
        vectors = self.check_mask(mask)
        return dense_state_dict(self.traced, self.analysis, vectors, self.state_dict_map(vectors), compact)

    def verify(self, mask: SoftMask) -> VerifyReport:
        """Check the promise on one mask, in float64 and eval mode: equality, FLOPs and parameters.

        Of a model that is traced in regions, the regions are compared on what they get on the example, and the whole
        models on the example itself.

        Raises:
            MaskError: the mask does not fit.
            NoValuesError: the model is on the meta device.
        """
        self.require_values("verifying")
        vectors = self.check_mask(mask)
        return verify(self.traced, self.analysis, vectors, self.flops(vectors), self.params(vectors))
