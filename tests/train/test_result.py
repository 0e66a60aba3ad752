"""What the table at the end of a run says."""

import dataclasses

import pytest
from rich.console import Console

from atofx.train.classification import Classification
from atofx.train.result import RunResult, Score

RESULT = RunResult(
    scores=(Score("top1", "top-1", None, 90.0, 90.0),),
    words=Classification.words,
    flops_dense=1000,
    flops_compact=500,
    params_dense=100,
    params_compact=50,
    latency_dense_ms=4.0,
    latency_compact_ms=3.0,
    latency_batch=8,
    speedup=1.3,
    agreement=100.0,
    flops_target=0.5,
    p_target=0.5,
    seconds=1.0,
    folder="run",
    latency_dense_quartiles_ms=(3.8, 4.2),
    latency_compact_quartiles_ms=(2.9, 3.1),
)


def printed(result: RunResult) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(result.table())
    return " ".join(capture.get().split())


@pytest.mark.parametrize(
    ("quartiles", "steady"), [((3.7, 4.3), True), ((3.65, 4.4), True), ((2.0, 7.4), False), (None, True)]
)
def test_times_that_vary_are_said_to(quartiles: tuple[float, float] | None, steady: bool) -> None:
    result = dataclasses.replace(RESULT, latency_dense_quartiles_ms=quartiles)
    assert result.is_steady is steady
    assert ("so their ratio is uncertain" in printed(result)) is not steady
