"""ONNX Runtime on the CPU, from what ``torch.onnx`` exports."""

from __future__ import annotations

import importlib.util
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from atofx.errors import ConfigError

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_ERRORS_ONLY = 3  # ONNX Runtime's severity of messages


def check() -> None:
    """Make sure that ONNX Runtime and what exporting needs are installed.

    Raises:
        ConfigError: a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the back end onnxruntime needs {' and '.join(missing)}: "
            'pip install "atofx[export]" (or pip install onnx onnxscript onnxruntime)'
        )


def prepare(models: Sequence[nn.Module], inputs: Any) -> tuple[Callable[[], Any], ...]:
    """Export each model and open a session with as many threads as PyTorch has.

    A run returns a list of numpy arrays.

    Raises:
        ConfigError: the inputs are not for it, or a model cannot be exported.
    """
    arrays = [_array(leaf) for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    return tuple(_session(model, inputs, arrays) for model in models)


def _array(tensor: torch.Tensor) -> Any:
    if tensor.device.type != "cpu":
        raise ConfigError("the back end onnxruntime runs on the CPU here; choose --device cpu for it")
    try:
        return tensor.numpy()
    except TypeError as error:
        raise ConfigError(f"the back end onnxruntime takes no {tensor.dtype} inputs; choose another dtype") from error


def _session(model: nn.Module, inputs: Any, arrays: Sequence[Any]) -> Callable[[], Any]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        _export(model, inputs, file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")  # or one session's threads slow the next
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base of their own
            raise ConfigError(f"ONNX Runtime does not take the exported model: {_first_line(error)}") from error
    names = [given.name for given in session.get_inputs()]
    feeds = dict(zip(names, arrays, strict=True))
    return lambda: session.run(None, feeds)


def _export(model: nn.Module, inputs: Any, file: Path) -> None:
    keywords = dict(inputs) if isinstance(inputs, Mapping) else None
    arguments = () if keywords is not None else inputs if isinstance(inputs, tuple) else (inputs,)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it prints graphs
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(model, arguments, kwargs=keywords, dynamo=True, verbose=False)
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigError(f"torch.onnx cannot export the model: {_first_line(error.__cause__ or error)}") from error
    assert program is not None  # it is None only where a file was named
    program.save(file)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
