"""atofx: a graph compiler for structured pruning of PyTorch models."""

from atofx import errors, methods
from atofx.ir.groups import Group, Member
from atofx.ir.limits import Limits
from atofx.ir.mask import Mask
from atofx.ops.registry import register_op
from atofx.program import Program, trace
from atofx.storage import load, save

__version__ = "0.1.0"

__all__ = ["Group", "Limits", "Mask", "Member", "Program", "errors", "load", "methods", "register_op", "save", "trace"]
