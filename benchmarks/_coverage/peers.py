"""What other tools are asked about one model: do they run, do they equal their own zeroed model, how long do they take.

Torch-Pruning gets its usual set-up: the dependency graph, random importance, half of the channels of every group, the
output layers ignored (`benchmarks._coverage.outputs` finds them). Its zeroed model is a copy of the model in which
every row it is about to remove is zero. only_train_once zeroes random groups and cuts them out itself.
"""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.ir.copies import deepcopy
from benchmarks._coverage import measure, models
from benchmarks._coverage.ours import KEEP, Report
from benchmarks._coverage.outputs import output_layers
from tests import invariants

_ROWS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)


def installed(tool: str) -> bool:
    """Whether a tool can be imported here."""
    return importlib.util.find_spec(tool) is not None


def torch_pruning(entry: models.Entry, report: Report) -> None:
    """Answer the questions for Torch-Pruning; a failure raises."""
    import torch_pruning as tp

    report(stage="build")
    sizes, model = models.sizes(entry), models.build(entry)
    report(stage="trace", native=sizes.native, check=sizes.check, batch=sizes.batch)
    example = models.inputs(entry, sizes.native, 1, torch.float32)

    def groups() -> list[Any]:
        return list(tp.DependencyGraph().build_dependency(model, example_inputs=example).get_all_groups())

    report(trace_seconds=measure.median_seconds(groups), trace_peak_gib=measure.peak_gib())
    model.double()
    invariants.randomise(model, seed=0)
    inputs = models.inputs(entry, sizes.check, sizes.batch, torch.float64)
    report(stage="prune")
    before = sum(p.numel() for p in model.parameters())
    ignored = output_layers(model, inputs)
    names = {id(module): name for name, module in model.named_modules()}
    report(ignored=[names[id(layer)] for layer in ignored])
    torch.manual_seed(0)
    pruner = tp.pruner.BasePruner(
        model, inputs, tp.importance.RandomImportance(), pruning_ratio=1 - KEEP, ignored_layers=ignored
    )
    dense = measure.tensors(invariants.call(model, inputs))
    zeroed = _Zeroed(model)
    for group in pruner.step(interactive=True):
        zeroed.cut(pruner.DG, group)
        group.prune()
    after = sum(p.numel() for p in model.parameters())
    report(params_kept=round(after / before, 4), prunable=after < before)
    report(stage="run")
    small = measure.tensors(invariants.call(model, inputs))
    report(stage="compare", runs=True)
    reference = measure.tensors(invariants.call(zeroed.module, inputs))
    report(
        error=invariants.relative_error(small, reference),
        effect=invariants.relative_error(dense, reference),
        peak_gib=measure.peak_gib(),
    )
    report(stage="done")


class _Zeroed:
    """A copy of the model in which every row that goes is zero.

    Torch-Pruning counts rows among those that are left, and a layer behind a concat loses some with several groups.

    Args:
        model: before anything was cut.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = deepcopy(model)
        self._names = {id(module): name for name, module in model.named_modules()}
        self._left: dict[tuple[str, int], list[int]] = {}

    def cut(self, graph: Any, group: Any) -> None:
        """Zero every row that a group is about to lose."""
        for dependency, indices in group:
            module = dependency.target.module
            if isinstance(module, nn.Parameter):
                own = graph._param_to_name[module]
                dim = next(p.pruning_dim for p in graph.unwrapped_parameters if p.parameters is module)
                self._fill(own, self._taken(own, indices, dim), dim)
                continue
            name = self._names.get(id(module), "")  # operations without a module have one of Torch-Pruning's
            if isinstance(module, nn.MultiheadAttention):
                rows = self._taken(f"{name}.out_proj.weight", indices, 0)
                width = self._tensor(f"{name}.out_proj.weight").shape[0]
                for part in ("weight", "bias"):
                    self._fill(f"{name}.in_proj_{part}", [row + third * width for third in range(3) for row in rows], 0)
                    self._fill(f"{name}.out_proj.{part}", rows, 0)
            elif isinstance(module, _ROWS) and graph.is_out_channel_pruning_fn(dependency.handler):
                dim = 1 if getattr(module, "transposed", False) else 0
                rows = self._taken(f"{name}.weight", indices, dim)
                self._fill(f"{name}.weight", rows, dim)
                self._fill(f"{name}.bias", rows, 0)

    def _taken(self, name: str, indices: Any, dim: int) -> list[int]:
        """The rows of the uncut tensor that these are among those left, which they leave."""
        tensor = self._tensor(name)
        if tensor is None or not tensor.dim():
            return []
        left = self._left.setdefault((name, dim), list(range(tensor.shape[dim])))
        rows = [left[index] for index in indices]
        gone = set(rows)
        self._left[name, dim] = [row for row in left if row not in gone]
        return rows

    def _fill(self, name: str, rows: list[int], dim: int) -> None:
        tensor = self._tensor(name)
        if tensor is not None and tensor.dim():
            with torch.no_grad():
                tensor.index_fill_(dim, torch.as_tensor(rows, dtype=torch.long), 0)

    def _tensor(self, name: str) -> Any:
        owner, _, last = name.rpartition(".")
        return getattr(self.module.get_submodule(owner), last, None)


def only_train_once(entry: models.Entry, report: Report) -> None:
    """Answer the questions for only_train_once; a failure raises."""
    from only_train_once import OTO

    report(stage="build")
    sizes, model = models.sizes(entry), models.build(entry)
    invariants.randomise(model, seed=0)
    inputs = models.inputs(entry, sizes.check, sizes.batch, torch.float32)
    report(stage="trace", check=sizes.check, batch=sizes.batch, params=sum(p.numel() for p in model.parameters()))
    example = inputs[0] if len(inputs) == 1 else inputs
    report(trace_seconds=measure.median_seconds(lambda: OTO(model=copy.deepcopy(model), dummy_input=example)))
    oto = OTO(model=model, dummy_input=example)
    report(stage="prune")
    oto.random_set_zero_groups(target_group_sparsity=1 - KEEP)
    with tempfile.TemporaryDirectory() as folder:
        oto.construct_subnet(out_dir=folder)
        zeroed, compact = (
            torch.load(path, weights_only=False).eval()
            for path in (oto.full_group_sparse_model_path, oto.compressed_model_path)
        )
    report(stage="run", params_kept=round(_params(compact) / _params(zeroed), 4))
    small = measure.tensors(invariants.call(compact.double(), pytree.tree_map(torch.Tensor.double, inputs)))
    report(stage="compare", runs=True)
    reference = measure.tensors(invariants.call(zeroed.double(), pytree.tree_map(torch.Tensor.double, inputs)))
    report(error=invariants.relative_error(small, reference), peak_gib=measure.peak_gib())
    report(stage="done")


def _params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


TOOLS: Mapping[str, Callable[[models.Entry, Report], None]] = {
    "torch_pruning": torch_pruning,
    "only_train_once": only_train_once,
}
