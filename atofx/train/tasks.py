"""The task that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from atofx.train.classification import Classification
from atofx.train.config import TrainConfig
from atofx.train.processes import Processes
from atofx.train.squad.extra import squad_extra
from atofx.train.task import Task


def load_task(config: TrainConfig, processes: Processes) -> Task:
    """The task with its data.

    Raises:
        ConfigError: options that the task does not bear, or a library that is not installed.
        DataError: the data is missing or malformed.
    """
    return _LOADERS[config.task](config, processes)


def _squad(config: TrainConfig, processes: Processes) -> Task:
    with squad_extra():
        from atofx.train.squad.task import Squad  # transformers takes seconds to import

    return Squad.load(config, processes)


_LOADERS: Mapping[str, Callable[[TrainConfig, Processes], Task]] = MappingProxyType(
    {"classification": Classification.load, "squad": _squad}
)
