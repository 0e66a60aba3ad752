import pytest

from atofx import methods
from atofx.errors import ConfigError


def test_names():
    assert methods.__all__ == [
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
    assert all(hasattr(methods, name) for name in methods.__all__)


def test_by_name():
    assert methods.by_name("ato") is methods.by_name("ATO") is methods.ATO
    assert methods.by_name("dhspg") is methods.DHSPG
    with pytest.raises(ConfigError, match="unknown method 'atp'; did you mean 'ato'"):
        methods.by_name("atp")
