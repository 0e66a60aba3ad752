"""Save and load compact models: one safetensors file with JSON metadata, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from atofx.errors import ConfigError, FileError, TraceError
from atofx.ir.mask import Mask
from atofx.ir.tensor_files import write_tensors
from atofx.ir.trace_options import TraceOptions
from atofx.passes.inputs import ExampleInputs
from atofx.passes.merge import TracedRegions
from atofx.passes.plan import Call, Plan
from atofx.passes.regions import retrace
from atofx.program import Program, SoftMask, analysed, trace

_FORMAT = "atofx-compact/1"


def save(program: Program, mask: SoftMask, path: str | os.PathLike[str]) -> None:
    """Write the compact model: its tensors, the mask, the form of the example inputs, and how it was traced.

    All at once or not at all.

    Raises:
        MaskError: the mask does not fit the program.
        FileError: the folder does not exist, or the example inputs are of a class that no file can hold.
        NoValuesError: the model is on the meta device.
    """
    program.require_values("saving")
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise FileError(
            f"cannot write {os.fspath(path)!r}: there is no folder {str(target.absolute().parent)!r}; make it first"
        )
    module = program.compact(mask)
    metadata = {
        "format": _FORMAT,
        "mask": Mask(mask).to_json(),
        "inputs": json.dumps(_describe(program.example_inputs)),
        "options": json.dumps(asdict(program.options)),
        "training": json.dumps(module.training),
    }
    if isinstance(program.traced, TracedRegions):
        metadata["plan"] = json.dumps(_plan_form(program.traced.plan))
    tensors = {name: t.detach().cpu().contiguous() for name, t in _unique(module).items()}
    write_tensors(tensors, target, metadata)


@dataclass(frozen=True, eq=False)
class Saved:
    """What a file holds, and the dense model it was cut from.

    Attributes:
        whole: the program of the dense model that the factory made.
        program: the one the mask is of: the same, or the one without some blocks.
        mask: what was kept.
        module: the compact model with the file's weights.
    """

    whole: Program
    program: Program
    mask: Mask
    module: nn.Module


def load(path: str | os.PathLike[str], model_factory: Callable[[], nn.Module]) -> nn.Module:
    """Read a compact model, of the kind that :meth:`Program.compact` gave.

    Args:
        path: a file that :func:`save` wrote.
        model_factory: makes the *dense* model (its weights do not matter).

    Raises:
        FileError: the file is missing, truncated, of another kind, or of another model.
        ConfigError: a model was given instead of a function that makes it.
    """
    return read(path, model_factory).module


def read(
    path: str | os.PathLike[str], model_factory: Callable[[], nn.Module], inputs: ExampleInputs | None = None
) -> Saved:
    """Read a compact model as :func:`load` does, with the program and the mask it comes from.

    Args:
        path: a file that :func:`save` wrote.
        model_factory: makes the *dense* model (for the compact one its weights do not matter).
        inputs: example inputs of the program; None: zeros of the sizes that the file names.

    Raises:
        FileError: the file is missing, truncated, of another kind, or of another model.
        ConfigError: a model was given instead of a function that makes it.
    """
    name = os.fspath(path)
    if Path(name).is_dir():
        raise FileError(
            f"{name!r} is a folder; name the file in it: model.safetensors of a cut, compact.safetensors of a run"
        )
    if isinstance(model_factory, nn.Module):
        raise ConfigError(
            f"load needs a function that makes the dense {type(model_factory).__name__}, not the model itself"
        )
    try:
        with safe_open(name, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot read {name!r} as a safetensors file: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise FileError(f"{name!r} is not a compact model of format {_FORMAT!r}; write one with atofx.save")
    mask = Mask.from_json(metadata["mask"])
    inputs = _rebuild(json.loads(metadata["inputs"])) if inputs is None else inputs
    model = model_factory().train(json.loads(metadata["training"]))
    whole, program = _programs(model, inputs, metadata, name)
    expected = {g.name: g.size for g in program.prunable}
    given = {group: vector.numel() for group, vector in mask.items()}
    if expected != given:
        differing = sorted(set(expected.items()) ^ set(given.items()))[:4]
        problem = "holds a mask of another model than the one given"
        raise FileError(f"{name!r} {problem}; groups that differ: {differing}")
    module = program.compact(mask)
    own = _unique(module)
    if own.keys() != tensors.keys() or any(own[key].shape != tensors[key].shape for key in own):
        raise FileError(f"{name!r} holds other tensors than the model given: {_difference(tensors, own)}")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.data = tensors[key]
    return Saved(whole, program, mask, module)


def _difference(held: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """The first tensors that only one side has, or whose shapes differ."""
    names = sorted(held.keys() ^ own.keys())[:4]
    if names:
        return f"only one of both has {', '.join(names)}"
    shapes = [(key, tuple(held[key].shape), tuple(own[key].shape)) for key in own if held[key].shape != own[key].shape]
    return "; ".join(f"{key} is {file} there and {model} here" for key, file, model in shapes[:3])


def _programs(model: nn.Module, inputs: Any, metadata: Mapping[str, str], name: str) -> tuple[Program, Program]:
    """Of the whole model, and of what the file was written from: the same, or without the blocks that were left out."""
    options = json.loads(metadata["options"])
    without = options.pop("without", ())
    whole = program = _whole(model, inputs, metadata, options, name)
    for blocks in without:
        try:
            program = program.without_blocks(blocks)
        except ConfigError as error:
            raise FileError(f"{name!r} leaves out blocks of another model than the one given: {error}") from error
    return whole, program


def _whole(
    model: nn.Module, inputs: Any, metadata: Mapping[str, str], options: Mapping[str, Any], name: str
) -> Program:
    if "plan" not in metadata:
        return trace(model, inputs, **options)
    try:
        traced = retrace(model, inputs, _rebuilt_plan(json.loads(metadata["plan"])))
        return analysed(traced, TraceOptions(**options))
    except TraceError as error:
        raise FileError(f"{name!r} holds regions of another model than the one given: {error}") from error


def _plan_form(plan: Plan) -> Any:
    """The regions as JSON types: which they are must not depend on the weights that ``model_factory`` makes."""
    calls = [{"region": c.region, "inputs": _describe(c.inputs), "times": c.times} for c in plan.calls]
    return {"reason": plan.reason, "calls": calls, "outside": dict(plan.outside)}


def _rebuilt_plan(data: Any) -> Plan:
    calls = tuple(Call(c["region"], _rebuild(c["inputs"]), c["times"]) for c in data["calls"])
    return Plan(data["reason"], calls, data["outside"])


def _unique(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, a tied tensor once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _describe(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        ranged = not value.dtype.is_floating_point and value.numel() > 0
        low, high = (int(value.min()), int(value.max())) if ranged else (0, 0)
        return {"tensor": list(value.shape), "dtype": str(value.dtype).removeprefix("torch."), "low": low, "high": high}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        raise FileError(
            f"the example inputs hold a named tuple ({type(value).__name__}), whose class a file of tensors cannot "
            "hold; trace the model with plain tuples or tensors"
        )
    if isinstance(value, Mapping):
        return {"dict": {k: _describe(v) for k, v in value.items()}}
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": [_describe(v) for v in value]}
    return {"value": value}


def _rebuild(form: Any) -> Any:
    if "tensor" in form:
        dtype = getattr(torch, form["dtype"])
        if dtype.is_floating_point:
            return torch.zeros(form["tensor"], dtype=dtype)
        return torch.full(form["tensor"], form["low"], dtype=dtype)
    if "dict" in form:
        return {k: _rebuild(v) for k, v in form["dict"].items()}
    if "tuple" in form:
        return tuple(_rebuild(v) for v in form["tuple"])
    if "list" in form:
        return [_rebuild(v) for v in form["list"]]
    return form["value"]
