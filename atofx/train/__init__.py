"""Training: data, engine, checkpoints, recipes. ``run`` is the whole of it; the rest is loaded when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atofx.train.config import TrainConfig
    from atofx.train.result import RunResult

__all__ = ["run"]


def run(config: TrainConfig) -> RunResult:
    """Train, shrink and compare as ``config`` says; the same call on one CPU, one GPU or under ``accelerate launch``.

    ``accelerate launch --num_processes 8 -m atofx train`` takes eight GPUs. Several CPU processes are started with
    ``torchrun --nproc_per_node 2 -m atofx train`` (accelerate's own launcher needs MPI for them).

    Everything is left in the run folder: ``config.yaml``, ``last.safetensors`` and ``best.safetensors`` (checkpoints),
    ``metrics.jsonl``, TensorBoard events, ``mask.json``, ``compact.safetensors``, ``result.json`` and ``report.html``.

    Raises:
        ConfigError: a value that does not fit the model, the data or the number of processes.
        DataError: the data is missing or malformed.
        TargetError: the FLOPs target cannot be reached.
        VerifyError: the masked and the compact model disagree on a test image.
    """
    from atofx.train.runner import execute

    return execute(config)
