"""What the files of a run must hold for a report."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

Share = Annotated[float, Field(ge=0)]


class _File(BaseModel):
    """Read as it is: other fields are kept."""

    model_config = ConfigDict(extra="allow")


class Layer(_File):
    """One layer in ``result.json``."""

    name: str
    op: str
    dense: NonNegativeInt
    compact: NonNegativeInt


class Verification(_File):
    """The certificate in ``result.json``."""

    ok: bool
    error: float
    tolerance: float
    flops_predicted: NonNegativeInt
    flops_counted: NonNegativeInt
    params_predicted: NonNegativeInt
    params_counted: NonNegativeInt


class Score(_File):
    """A figure on the test data in ``result.json``."""

    name: str
    title: str
    dense: float | None
    masked: float
    compact: float


class Words(_File):
    """What the things of a task are called, in ``result.json``."""

    sample: str
    samples: str
    tested: str
    answer: str


class Result(_File):
    """``result.json``."""

    scores: Annotated[list[Score], Field(min_length=1)]
    words: Words
    flops_dense: PositiveInt
    flops_compact: NonNegativeInt
    params_dense: PositiveInt
    params_compact: NonNegativeInt
    latency_dense_ms: float
    latency_compact_ms: float
    latency_batch: PositiveInt
    speedup: float
    agreement: float
    flops_target: Share
    latency_dense_quartiles_ms: tuple[float, float] | None = None
    latency_compact_quartiles_ms: tuple[float, float] | None = None
    verification: Verification | None = None
    layers: list[Layer] = []


class Epoch(BaseModel):
    """A record of kind ``epoch`` in ``metrics.jsonl``; other numbers, such as those of the scores, are kept."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)

    epoch: PositiveInt
    kind: str
    loss: float | None = None
    accuracy: float | None = None
    flops: Share | None = None
    lr: float | None = None


class Masked(BaseModel):
    """A record of kind ``mask`` in ``metrics.jsonl``: kept and all units of every group."""

    epoch: PositiveInt
    kept: dict[str, NonNegativeInt]
    units: dict[str, PositiveInt]


class Group(BaseModel):
    """A group in ``mask.json``."""

    size: PositiveInt
    dropped: list[NonNegativeInt]


class MaskFile(BaseModel):
    """``mask.json``."""

    groups: dict[str, Group]


class Config(BaseModel):
    """What is shown of ``config.yaml`` besides its text."""

    method: str
    model: str
    data: str
    seed: int
