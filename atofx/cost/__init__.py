"""FLOPs (multiply-adds counted once, as fvcore does) and parameters, as functions of the mask."""

from atofx.cost.count import count_flops
from atofx.cost.elements import elements_per_unit
from atofx.cost.model import CostModel, build_cost_model

__all__ = ["CostModel", "build_cost_model", "count_flops", "elements_per_unit"]
