"""Methods that decide a mask: before training (scratch, TAS), meanwhile (ATO, the OTO optimizers), or in one look."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from atofx.errors import ConfigError
from atofx.methods.ato import ATO
from atofx.methods.dhspg import DHSPG, DHSPGSchedule
from atofx.methods.hesso import HESSO, HESSOSchedule
from atofx.methods.hspg import HSPG, HSPGSchedule
from atofx.methods.kinds import Kind
from atofx.methods.oneshot import oneshot
from atofx.methods.protocol import Method
from atofx.methods.schedule import PUBLISHED, Schedule
from atofx.methods.scratch import PruningFromScratch
from atofx.methods.selection import GroupFilter
from atofx.methods.sparse_optimizer import SparseOptimizer
from atofx.methods.subset import subset_indices
from atofx.methods.targets import Targets, targets
from atofx.methods.tas import TAS
from atofx.methods.temperature import Temperature

__all__ = [
    "ATO",
    "PUBLISHED",
    "Schedule",
    "HSPG",
    "HSPGSchedule",
    "Kind",
    "DHSPG",
    "DHSPGSchedule",
    "HESSO",
    "HESSOSchedule",
    "SparseOptimizer",
    "Method",
    "PruningFromScratch",
    "TAS",
    "Temperature",
    "GroupFilter",
    "Targets",
    "by_name",
    "oneshot",
    "subset_indices",
    "targets",
]

_METHODS: Mapping[str, type[ATO | SparseOptimizer]] = MappingProxyType(
    {"ato": ATO, "hspg": HSPG, "dhspg": DHSPG, "hesso": HESSO}
)


def by_name(name: str) -> type[ATO | SparseOptimizer]:
    """The training-time method called ``name``; the OTO family are optimizers around one's own.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name.lower() in _METHODS:
        return _METHODS[name.lower()]
    near = get_close_matches(name.lower(), _METHODS, n=1, cutoff=0.0)
    raise ConfigError(f"unknown method {name!r}; did you mean {near[0]!r}? There are: {', '.join(_METHODS)}")
