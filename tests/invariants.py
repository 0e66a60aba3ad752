"""The promises of a program, each as a function that raises `InvariantError` where it is broken.

The small nets, the random nets and the benchmarks all check the same promises through this module. Nothing here is
taken from the package but its public interface, so that no error can hide by being made twice.
"""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

import atofx
from atofx.cost import count_flops
from atofx.errors import InputSizeError

TOLERANCE = 1e-9
ROUNDINGS = 1e-14  # 45 of them in float64
LEAST = 1e-9  # kept share that leaves one unit of every group


class InvariantError(AssertionError):
    """A promise is broken; the message starts with its name."""


def broken(name: str, message: str) -> NoReturn:
    """Report that the promise called ``name`` does not hold."""
    raise InvariantError(f"{name}: {message}")


# ------------------------------------------------------------------------------------------------- weights and values


def randomise(model: nn.Module, seed: int) -> None:
    """Give every parameter and every running statistic a random value, none of them near zero, in place."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * (high - low) + low

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                fan_in = max(parameter.numel() // parameter.shape[0], 1)
                value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * (2.0 / fan_in) ** 0.5
            else:
                sign = uniform(parameter, -1, 1).sign()
                value = uniform(parameter, 0.5, 1.5) * sign
            parameter.copy_(value)
        for module in model.modules():
            mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if isinstance(mean, Tensor) and isinstance(var, Tensor):
                mean.copy_(uniform(mean, -1, 1))
                var.copy_(uniform(var, 0.5, 2.0))


def apply(module: nn.Module, inputs: Any) -> Any:
    """The module's output on copies of the inputs: a tensor, a tuple of positional or a dict of keyword inputs."""
    inputs = pytree.tree_map_only(torch.Tensor, torch.clone, inputs)
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def call(module: nn.Module, inputs: Any) -> Any:
    """`apply` without gradients."""
    with torch.no_grad():
        return apply(module, inputs)


@dataclass(frozen=True)
class Outcome:
    """What a run gives: the outputs in order, the place of each in the nested whole, and the buffers afterwards."""

    values: tuple[Tensor, ...]
    nesting: tuple[str, ...]
    buffers: Mapping[str, Tensor]


def other_sizes(model: nn.Module, inputs: Any) -> Any:
    """Inputs like these with images two pixels larger, or None if the model takes no such images."""

    def larger(tensor: Tensor) -> Tensor:
        if tensor.dim() < 4 or not tensor.is_floating_point():
            return tensor
        return nn.functional.pad(tensor, (1, 1, 1, 1), value=0.3)

    larger_inputs = pytree.tree_map_only(torch.Tensor, larger, inputs)
    if all(a.shape == b.shape for a, b in zip(_tensors(inputs), _tensors(larger_inputs), strict=True)):
        return None
    try:
        run(model, larger_inputs, "eval")
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return None
    return larger_inputs


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def run(module: nn.Module, inputs: Any, mode: str) -> Outcome:
    """Run the module in the given mode and leave it as it was, statistics included."""
    training = {name: part.training for name, part in module.named_modules()}
    buffers = dict(module.named_buffers(remove_duplicate=False))
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    module.train(mode == "train")
    try:
        leaves, _ = pytree.tree_flatten_with_path(call(module, inputs))
        after = {name: buffer.clone() for name, buffer in module.named_buffers(remove_duplicate=False)}
    finally:
        for name, part in module.named_modules():
            part.training = training[name]
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(before[name])
    values = tuple(leaf if isinstance(leaf, Tensor) else torch.tensor(leaf) for _, leaf in leaves)
    return Outcome(values, tuple(pytree.keystr(path) for path, _ in leaves), after)


def relative_error(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of any output, relative to that output's largest value; infinite where shapes differ."""
    if len(actual) != len(expected):
        return float("inf")
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape or not bool(torch.isfinite(a).all()) or not bool(torch.isfinite(b).all()):
            return float("inf")
        if a.numel():
            difference = float((a.double() - b.double()).abs().max())
            worst = max(worst, difference / max(float(b.double().abs().max()), 1e-30) if difference else 0.0)
    return worst


def amplification(module: nn.Module, inputs: Any, mode: str) -> float:
    """How many times a relative disturbance of all parameters and layers' results grows on its way to the output.

    A net that multiplies rounding errors by more than a million says nothing at a tolerance of 1e-9. Parameters alone
    do not tell: a norm over equal values makes rounding errors large that no parameter can cause.
    """
    disturbed = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    size = 1e-11

    def noisy(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return value * (1 + size * (torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2 - 1))

    with torch.no_grad():
        for parameter in disturbed.parameters():
            parameter.copy_(noisy(parameter))
    for layer in disturbed.modules():
        if not any(True for _ in layer.children()):
            layer.register_forward_hook(lambda _, inputs, result: pytree.tree_map(noisy, result))
    return relative_error(run(disturbed, inputs, mode).values, run(module, inputs, mode).values) / size


class UnsuitableError(Exception):
    """The net multiplies rounding errors so much that comparing at the tolerance says nothing."""


def not_equal(name: str, what: str, error: float, zeroed: nn.Module, inputs: Any, mode: str) -> NoReturn:
    """Report an error above the tolerance: as a broken promise, unless the mask left a net that shows rounding only.

    That is one whose output changes as much when every parameter and layer's result of the zeroed module is disturbed
    by some roundings: nothing is left but rounding, as of a map of one value minus its mean, or a norm over values that
    are nearly equal makes much of it.

    Raises:
        InvariantError: rounding does not explain the error.
        UnsuitableError: it does.
    """
    growth = amplification(zeroed, inputs, mode)
    if error < float("inf") and error <= ROUNDINGS * growth:
        raise UnsuitableError(f"rounding errors grow {growth:.1e} times in {mode} mode under the mask")
    broken(name, f"{what} is off by {error:.1e} in {mode} mode")


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


# ------------------------------------------------------------------------------------------------------------- tracing


@contextmanager
def untouched(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Promise 4: what happens inside leaves the model, its inputs, torch's settings and random numbers alone."""
    before = _snapshot(model, inputs)
    yield
    after = _snapshot(model, inputs)
    for what, value in before.items():
        if not _same(value, after[what]):
            broken("tracing leaves the model untouched", f"{what} changed")


def _snapshot(model: nn.Module, inputs: Any) -> dict[str, Any]:
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    hooks = [name for name in vars(nn.Module()) if name.endswith("hooks")]
    return {
        "the values of parameters and buffers": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "the identity of parameters and buffers": {name: id(tensor) for name, tensor in tensors.items()},
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "gradients": {name: tensor.grad is None for name, tensor in tensors.items()},
        "the modules": {name: (id(module), type(module)) for name, module in modules.items()},
        "the mode": {name: module.training for name, module in modules.items()},
        "hooks": {name: {hook: list(getattr(module, hook)) for hook in hooks} for name, module in modules.items()},
        "module attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "the inputs": [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in pytree.tree_leaves(inputs)],
        "torch's random numbers": torch.get_rng_state(),
        "Python's random numbers": random.getstate(),
        "numpy's random numbers": repr(np.random.get_state()),  # noqa: NPY002 - the legacy state too
        "torch's settings": (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
        ),
    }


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@dataclass(frozen=True)
class Subject:
    """A traced model with what is needed to run it.

    Attributes:
        model: the user's model.
        inputs: its example inputs.
        program: what tracing made of it.
        modes: the modes in which the model is a function of its inputs alone.
    """

    model: nn.Module
    inputs: Any
    program: atofx.Program
    modes: tuple[str, ...]


def trace(model: nn.Module, inputs: Any, modes: Sequence[str] = ("eval", "train")) -> Subject:
    """Trace the model and hold promise 4."""
    with untouched(model, inputs):
        program = atofx.trace(model, inputs)
    return Subject(model, inputs, program, tuple(modes))


# -------------------------------------------------------------------------------------------------------------- groups


def well_formed(subject: Subject) -> None:
    """Groups are what their description says: one unit a coordinate, all units of a group alike."""
    program = subject.program
    name = "groups are well formed"
    owners: dict[tuple[str, int], Tensor] = {}
    names = [group.name for group in program.groups]
    if len(set(names)) != len(names):
        broken(name, f"two groups share a name: {sorted(names)}")
    if [group.name for group in program.prunable] != [group.name for group in program.groups if group.prunable]:
        broken(name, "program.prunable is not the prunable part of program.groups")
    for group in program.groups:
        if group.prunable and group.reason is not None:
            broken(name, f"{group.name} is prunable and has a reason not to be: {group.reason}")
        if not group.prunable and not (group.reason or "").strip():
            broken(name, f"{group.name} is pinned without a reason")
        for member in group.members:
            shape = program.tensor(member.name).shape
            place = f"{group.name}, {member.name}, dim {member.dim}"
            if member.dim >= len(shape) or member.unit.shape != (shape[member.dim],):
                broken(name, f"{place}: {tuple(member.unit.shape)} units for shape {tuple(shape)}")
            counts = torch.bincount(member.unit[member.unit >= 0], minlength=group.size)
            if counts.numel() != group.size or int(member.unit.min()) < -1:
                broken(name, f"{place}: units outside 0..{group.size - 1}")
            if group.prunable and int(counts.min()) < 1:
                broken(name, f"{place}: some units hold no coordinate: {counts.tolist()}")
            taken = owners.setdefault((member.name, member.dim), torch.zeros(shape[member.dim], dtype=torch.bool))
            if bool((taken & (member.unit >= 0)).any()):
                broken(name, f"{place}: a coordinate belongs to two units")
            taken |= member.unit >= 0
        if group.prunable and not any(member.role == "producer" for member in group.members):
            broken(name, f"{group.name} is prunable but nothing produces it")


def prunable_axis(program: atofx.Program, axis: str) -> tuple[int, int]:
    """How many coordinates along ``"name:dim"`` are prunable, and how many units they form."""
    name, dim = axis.rsplit(":", 1)
    coordinates, units = 0, 0
    for group in program.prunable:
        for member in group.members:
            if member.name == name and member.dim == int(dim):
                kept = member.unit[member.unit >= 0]
                coordinates += kept.numel()
                units += kept.unique().numel()
    return coordinates, units


def explained(subject: Subject) -> None:
    """Promise 6: every parameter is in a prunable group or has a reason."""
    program = subject.program
    name = "every parameter is prunable or explained"
    prunable = {member.name for group in program.prunable for member in group.members}
    reasons: dict[str, set[str]] = defaultdict(set)
    for group in program.groups:
        if not group.prunable:
            for member in group.members:
                reasons[member.name].add(group.reason or "")
    for parameter, _ in subject.model.named_parameters(remove_duplicate=False):
        text = program.explain(parameter)
        if parameter not in text:
            broken(name, f"explain({parameter!r}) does not speak of it: {text!r}")
        if parameter not in prunable and parameter in reasons and not any(why in text for why in reasons[parameter]):
            broken(name, f"explain({parameter!r}) hides why it is pinned ({reasons[parameter]}): {text!r}")
    if not program.summary().strip():
        broken(name, "the summary is empty")


# ----------------------------------------------------------------------------------------------------------- equality


@dataclass(frozen=True)
class Forms:
    """What a program makes of one mask, to be run more than once."""

    zeroed: nn.Module
    compact: fx.GraphModule
    gated: nn.Module


def forms_of(program: atofx.Program, mask: atofx.Mask) -> Forms:
    """The three modules; the gated one has the mask set."""
    gated = program.gated()
    gated.set_mask(mask)
    return Forms(program.zeroed(mask), program.compact(mask), gated)


def agree(
    subject: Subject,
    mask: atofx.Mask,
    inputs: Any = None,
    tolerance: float = TOLERANCE,
    refusals: tuple[type[Exception], ...] = (),
    forms: Forms | None = None,
) -> float:
    """Promise 1: compact, zeroed and gated give the same, in every mode; returns the largest relative error.

    Errors of the types in ``refusals`` are no answers, so they are no wrong ones. ``forms`` are those of the mask.
    """
    inputs = subject.inputs if inputs is None else inputs
    forms = forms or forms_of(subject.program, mask)
    worst = 0.0
    for mode in subject.modes:
        reference = run(forms.zeroed, inputs, mode)
        if not all(bool(torch.isfinite(value).all()) for value in reference.values):
            broken("compact, zeroed and gated agree", f"the zeroed module's output is not finite in {mode} mode")
        for what, module in (("compact", forms.compact), ("gated", forms.gated)):
            try:
                other = run(module, inputs, mode)
            except refusals:
                continue
            error = relative_error(other.values, reference.values)
            if other.nesting != reference.nesting:
                broken("compact, zeroed and gated agree", f"{what} nests its outputs differently: {other.nesting}")
            if not error <= tolerance:
                not_equal("compact, zeroed and gated agree", what, error, forms.zeroed, inputs, mode)
            worst = max(worst, error)
            if module is forms.compact:
                _same_statistics(subject.program, mask, other, reference, mode, tolerance)
    return worst


def _same_statistics(
    program: atofx.Program, mask: atofx.Mask, small: Outcome, reference: Outcome, mode: str, tolerance: float
) -> None:
    for key, entry in program.state_dict_map(mask).items():
        if entry.key is None or key not in reference.buffers or entry.key not in small.buffers:
            continue
        expected, actual = take(reference.buffers[key], entry.kept), small.buffers[entry.key]
        if expected.is_floating_point():
            error = relative_error([actual], [expected])
            if not error <= tolerance:
                broken("running statistics agree", f"{key} is off by {error:.1e} after a step in {mode} mode")


def take(tensor: Tensor, kept: Sequence[Tensor | None]) -> Tensor:
    """The kept coordinates along every dim; None keeps all."""
    for dim, index in enumerate(kept):
        if index is not None:
            tensor = tensor.index_select(dim, index)
    return tensor


COMPOSITES = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
ROUNDING = 1e-12


def full_mask_is_dense(subject: Subject, whole: nn.Module | None = None) -> None:
    """Promise 2: with nothing dropped every module is bit-equal to the user's model.

    A composite module that torch runs as one fused kernel is opened up, which rounds differently once. ``whole`` is
    what compacting by the full mask gave, if that is there.
    """
    program = subject.program
    name = "the full mask is bit-equal to dense"
    full = program.full_mask()
    modules = {
        "compact(full_mask)": whole or program.compact(full),
        "zeroed(full_mask)": program.zeroed(full),
        "gated() with open gates": program.gated(),
    }
    fused = any(isinstance(module, COMPOSITES) for module in subject.model.modules())
    for mode in subject.modes:
        dense = run(subject.model, subject.inputs, mode)
        traced = run(program.module, subject.inputs, mode)
        if not _bit_equal(traced, dense):
            error = relative_error(traced.values, dense.values)
            if not fused or error > ROUNDING:
                broken(name, f"program.module is off by {error:.1e} in {mode} mode")
        for what, module in modules.items():
            outcome = run(module, subject.inputs, mode)
            if not _bit_equal(outcome, traced):
                broken(name, f"{what} is off by {relative_error(outcome.values, traced.values):.1e} in {mode} mode")


def _bit_equal(a: Outcome, b: Outcome) -> bool:
    same = (x.shape == y.shape and torch.equal(x, y) for x, y in zip(a.values, b.values, strict=True))
    return a.nesting == b.nesting and all(same)


def has_consequence(program: atofx.Program, mask: atofx.Mask) -> bool:
    """Whether the mask drops a unit that something reads."""
    return any(
        not bool(mask[group.name].all()) and any(member.role == "consumer" for member in group.members)
        for group in program.prunable
    )


def effect(subject: Subject, mask: atofx.Mask) -> float:
    """How much the mask changes the output, relative to it: a comparison without effect proves nothing."""
    dense = run(subject.model, subject.inputs, subject.modes[0])
    return relative_error(run(subject.program.zeroed(mask), subject.inputs, subject.modes[0]).values, dense.values)


# --------------------------------------------------------------------------------------------------------------- costs


def costs(subject: Subject, mask: atofx.Mask, compact: nn.Module) -> None:
    """Promise 3: predicted FLOPs and parameters are those counted on the compact module."""
    program = subject.program
    name = "costs are as predicted"
    predicted, counted = program.flops(mask), count_flops(compact, subject.inputs)
    if not isinstance(predicted, int) or predicted != counted:
        broken(name, f"{predicted!r} FLOPs predicted, {counted} counted")
    params, real = program.params(mask), parameter_count(compact)
    if not isinstance(params, int) or params != real:
        broken(name, f"{params!r} parameters predicted, {real} counted")
    soft = {group: vector.double() for group, vector in mask.items()}
    if soft:
        for what, value, whole in (
            ("FLOPs", program.flops(soft), predicted),
            ("parameters", program.params(soft), params),
        ):
            if float(value) != whole:
                broken(name, f"a soft mask of zeros and ones gives {float(value)} {what}, a hard one {whole}")


# ------------------------------------------------------------------------------------------------------ compact module


def compact_is_plain(subject: Subject, mask: atofx.Mask, compact: fx.GraphModule) -> None:
    """The compact module has its own parameters, mapped key by key, ties and frozen ones kept, sizes in its modules."""
    program = subject.program
    name = "the compact module is plain"
    old = subject.model.state_dict(keep_vars=True)
    new = compact.state_dict(keep_vars=True)
    mapping = {key: entry for key, entry in program.state_dict_map(mask).items() if entry.key is not None}
    mapped = {entry.key for entry in mapping.values()}
    if mapped != set(new):
        broken(
            name,
            f"a checkpoint mapped by state_dict_map does not load: {sorted(mapped - set(new))} unexpected, "
            f"{sorted(set(new) - mapped)} missing",
        )
    for key, entry in mapping.items():
        expected, actual = old[key], new[entry.key]
        if actual.shape != take(expected, entry.kept).shape:
            broken(name, f"{entry.key} has shape {tuple(actual.shape)}, not that of {key} at its kept indices")
        if actual.data_ptr() == expected.data_ptr() and actual.numel():
            broken(name, f"{entry.key} shares memory with the big model")
        if actual.requires_grad != expected.requires_grad or isinstance(actual, nn.Parameter) != isinstance(
            expected, nn.Parameter
        ):
            broken(name, f"{entry.key} is a {type(actual).__name__} with requires_grad={actual.requires_grad}")
    ties: dict[int, list[str]] = defaultdict(list)
    for key, entry in mapping.items():
        ties[id(old[key])].append(entry.key)
    for keys in ties.values():
        if len({id(new[key]) for key in keys}) != 1:
            broken(name, f"{keys} were one tensor and are no more")
    for path, module in compact.named_modules():
        _attributes_fit(path, module)
    for node in compact.graph.nodes:
        if node.op == "call_module" and "." in type(compact.get_submodule(node.target)).__module__:
            module = type(compact.get_submodule(node.target)).__module__
            if module.startswith("atofx") and not module.startswith("atofx.nn"):
                broken(name, f"{node.target} is a {type(compact.get_submodule(node.target)).__name__} of this package")
    compact.graph.lint()


def _attributes_fit(path: str, module: nn.Module) -> None:
    name = "sizes in modules fit their parameters"
    sizes: dict[str, tuple[Any, Any]] = {}
    if isinstance(module, nn.modules.conv._ConvNd):
        first, second = module.weight.shape[:2]
        if module.transposed:
            sizes = {
                "in_channels": (module.in_channels, first),
                "out_channels": (module.out_channels, second * module.groups),
            }
        else:
            sizes = {
                "out_channels": (module.out_channels, first),
                "in_channels": (module.in_channels, second * module.groups),
            }
    elif isinstance(module, nn.Linear):
        sizes = {"(out, in)": ((module.out_features, module.in_features), tuple(module.weight.shape))}
    elif isinstance(module, nn.Embedding):
        sizes = {"(rows, width)": ((module.num_embeddings, module.embedding_dim), tuple(module.weight.shape))}
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        for part in (module.weight, module.bias, module.running_mean, module.running_var):
            if part is not None:
                sizes["num_features"] = (module.num_features, part.numel())
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.weight is not None:
        sizes = {"normalized_shape": (tuple(module.normalized_shape), tuple(module.weight.shape))}
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        sizes = {"num_channels": (module.num_channels, module.weight.numel())}
    for what, (said, real) in sizes.items():
        if said != real:
            broken(name, f"{path}.{what} says {said}, the parameters say {real}")


def gates_are_differentiable(subject: Subject, mode: str = "eval") -> None:
    """A soft mask gets a gradient wherever turning a gate a little has an effect."""
    program = subject.program
    soft = {group.name: torch.ones(group.size, dtype=torch.float64, requires_grad=True) for group in program.prunable}
    if not soft:
        return
    gated = copy.deepcopy(program.gated()).train(mode == "train")
    gated.set_mask(soft)
    loss = torch.stack([leaf.double().square().sum() for leaf in _tensors(apply(gated, subject.inputs))]).sum()
    if loss.requires_grad:
        loss.backward()
    gated.set_mask(None)
    open_gates = run(gated, subject.inputs, mode)
    for name, vector in soft.items():
        if vector.grad is not None and bool(torch.isfinite(vector.grad).all()):
            continue
        gated.set_mask({name: torch.full((vector.numel(),), 0.999, dtype=torch.float64)})
        if relative_error(run(gated, subject.inputs, mode).values, open_gates.values) > TOLERANCE:
            broken("gates are differentiable", f"the gradient of {name} is {vector.grad}")
        gated.set_mask(None)


# --------------------------------------------------------------------------------------------------------------- twice


def twice(subject: Subject, mask: atofx.Mask, seed: int, first: nn.Module | None = None) -> int:
    """Promise 5: compacting the compact module again equals compacting once with both masks.

    Returns how many units the second mask dropped. ``first`` is what compacting by ``mask`` gave, if that is there.
    """
    program = subject.program
    name = "compacting twice is compacting once"
    first = first or program.compact(mask)
    again = trace(first, subject.inputs, subject.modes).program
    second, combined, dropped = _second_mask(program, again, mask, seed)
    compact_twice, compact_once = again.compact(second), program.compact(combined)
    shapes = [
        {key: tuple(tensor.shape) for key, tensor in module.named_parameters()}
        for module in (compact_twice, compact_once)
    ]
    if shapes[0] != shapes[1]:
        different = {key for key in shapes[0] | shapes[1] if shapes[0].get(key) != shapes[1].get(key)}
        broken(name, f"shapes differ: {[(key, shapes[0].get(key), shapes[1].get(key)) for key in sorted(different)]}")
    for mode in subject.modes:
        error = relative_error(
            run(compact_twice, subject.inputs, mode).values, run(compact_once, subject.inputs, mode).values
        )
        if not error <= TOLERANCE:
            not_equal(name, "the second", error, program.zeroed(combined), subject.inputs, mode)
    return dropped


def _second_mask(
    program: atofx.Program, again: atofx.Program, mask: atofx.Mask, seed: int
) -> tuple[atofx.Mask, atofx.Mask, int]:
    """A random mask of the second program and the mask of the first program that drops the same on top of ``mask``.

    The second program may tie more or fewer channels than the first (a convolution left with one group is free); the
    smallest sets that are whole units of both are dropped or kept together.
    """
    mapping = {key: entry for key, entry in program.state_dict_map(mask).items() if entry.key is not None}
    old_units = _unit_of_coordinate(program)
    new_units = _unit_of_coordinate(again)
    old_ids: dict[tuple[str, int], int] = {}
    new_ids: dict[tuple[str, int], int] = {}
    edges: set[tuple[int, int]] = set()
    fixed: set[int] = set()
    for key, entry in mapping.items():
        for dim, kept in enumerate(entry.kept):
            before = old_units.get((key, dim))
            after = new_units.get((entry.key, dim))
            length = program.tensor(key).shape[dim] if before is None else len(before)
            places = range(length) if kept is None else kept.tolist()
            for new_place, old_place in enumerate(places):
                one = before[old_place] if before else None
                two = after[new_place] if after else None
                a = old_ids.setdefault(one, len(old_ids)) if one else None
                b = new_ids.setdefault(two, len(new_ids)) if two else None
                if a is not None and b is not None:
                    edges.add((a, b))
                elif b is not None:
                    fixed.add(b)
                elif a is not None:
                    fixed.add(-1 - a)
    count = len(old_ids) + len(new_ids)
    rows = [a for a, _ in edges]
    columns = [len(old_ids) + b for _, b in edges]
    graph = coo_matrix((np.ones(len(edges)), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    fixed_components = {int(component[len(old_ids) + f]) if f >= 0 else int(component[-1 - f]) for f in fixed}

    generator = random.Random(seed)
    second = {group: vector.clone() for group, vector in again.full_mask().items()}
    combined = {group: vector.clone() for group, vector in mask.items()}
    order = sorted({int(c) for c in component} - fixed_components)
    generator.shuffle(order)
    dropped = 0
    members: dict[int, list[tuple[dict[str, Tensor], tuple[str, int]]]] = defaultdict(list)
    for unit, index in old_ids.items():
        members[int(component[index])].append((combined, unit))
    for unit, index in new_ids.items():
        members[int(component[len(old_ids) + index])].append((second, unit))
    for chosen in order:
        if generator.random() < 0.5:
            continue
        leaving: dict[tuple[int, str], int] = defaultdict(int)
        for vectors, (group, _) in members[chosen]:
            leaving[id(vectors), group] += 1
        both = {id(combined): combined, id(second): second}
        if any(int(both[which][group].sum()) <= number for (which, group), number in leaving.items()):
            continue
        for vectors, (group, unit) in members[chosen]:
            vectors[group][unit] = False
            dropped += vectors is second
    return atofx.Mask(second), atofx.Mask(combined), dropped


def _unit_of_coordinate(program: atofx.Program) -> dict[tuple[str, int], list[tuple[str, int] | None]]:
    units: dict[tuple[str, int], list[tuple[str, int] | None]] = {}
    for group in program.prunable:
        for member in group.members:
            axis = units.setdefault((member.name, member.dim), [None] * member.unit.numel())
            for place, unit in enumerate(member.unit.tolist()):
                if unit >= 0:
                    axis[place] = (group.name, unit)
    return units


# ------------------------------------------------------------------------------------------------------------ together


def check_mask(subject: Subject, mask: atofx.Mask) -> float:
    """Promises 1 and 3 for one mask; returns the largest relative error."""
    forms = forms_of(subject.program, mask)
    error = agree(subject, mask, forms=forms)
    costs(subject, mask, forms.compact)
    return error


def check_program(subject: Subject, mask: atofx.Mask, seed: int = 0, compact: fx.GraphModule | None = None) -> None:
    """Every promise that needs to be held once a program, with ``mask``, and what it gave, where one is needed."""
    well_formed(subject)
    explained(subject)
    full = subject.program.full_mask()
    whole = subject.program.compact(full)
    full_mask_is_dense(subject, whole)
    costs(subject, full, whole)
    compact = compact or subject.program.compact(mask)
    compact_is_plain(subject, mask, compact)
    gates_are_differentiable(subject, subject.modes[0])
    twice(subject, mask, seed, compact)


def prunable_share(program: atofx.Program) -> float:
    """The part of all parameters that has at least one prunable coordinate."""
    fixed = {name: torch.ones(p.shape, dtype=torch.bool) for name, p in program.module.named_parameters()}
    for group in program.prunable:
        for member in group.members:
            if member.name in fixed:
                whole = fixed[member.name]
                index = (member.unit >= 0).nonzero().flatten()
                whole.index_fill_(member.dim, index, False)
    total = sum(whole.numel() for whole in fixed.values())
    return 1 - sum(int(whole.sum()) for whole in fixed.values()) / max(total, 1)


def hold(model: nn.Module, inputs: Callable[[int], Any], seed: int) -> Subject:
    """Hold every promise on one model, with other weights than it was traced with.

    Args:
        model: in float64.
        inputs: batch size -> example inputs.
        seed: of weights and masks; where it is odd, one mask keeps a single unit of every group.

    Raises:
        UnsuitableError: nothing can be said at the tolerance.
    """
    model.train(seed % 2 == 0)
    subject = trace(model, inputs(2))
    randomise(model, seed)
    for mode in subject.modes:
        growth = amplification(model, subject.inputs, mode)
        if not growth < 1e4:
            raise UnsuitableError(f"rounding errors grow {growth:.1e} times in {mode} mode")
    program = subject.program
    for keep in (0.5, LEAST if seed % 2 else 0.2):
        check_mask(subject, program.random_mask(keep=keep, seed=seed))
    mask = program.random_mask(keep=0.5, seed=seed + 1)
    forms = forms_of(program, mask)
    check_program(subject, mask, seed, forms.compact)
    agree(subject, mask, inputs(3), forms=forms)
    larger = other_sizes(model, subject.inputs)
    if larger is not None:
        agree(subject, mask, larger, refusals=(InputSizeError,), forms=forms)
    return subject
