"""One record per operation. Importing this package enters all built-in records into the registry."""

from atofx.ops import (
    attention,
    contraction,
    convolution,
    embedding,
    expected_sizes,
    factories,
    indexing,
    joining,
    layer_spellings,
    movement,
    normalization,
    padding,
    pointwise,
    pooling,
    recurrent,
    reduction,
    scalars,
    weight_norm,
)
from atofx.ops.composite import COMPOSITES
from atofx.ops.registry import REGISTRY, OpRecord, register_op

FAMILIES = (
    scalars, movement, indexing, joining, padding, pointwise, reduction, contraction, attention, convolution,
    normalization, pooling, embedding, recurrent, factories, expected_sizes,
    weight_norm, layer_spellings,
)  # fmt: skip

__all__ = ["COMPOSITES", "FAMILIES", "REGISTRY", "OpRecord", "register_op"]
