"""What was measured on, and the number of threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from atofx.bench.setting import Device
from atofx.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    """Where times come from.

    Attributes:
        processor: name of the CPU or GPU that ran the models.
        cores: of the CPU.
        threads: that one operation may use on the CPU.
        load: processes that wanted to run before the measurement, averaged over a minute; None where that is unknown.
        torch: version.
        python: version.
        device: ``"cpu"`` or ``"cuda"``.
    """

    processor: str
    cores: int
    threads: int
    load: float | None
    torch: str
    python: str
    device: Device

    @property
    def busy(self) -> bool:
        """Whether other work was under way, which makes times long and uneven."""
        return self.load is not None and self.load >= 0.5 * self.cores


def this_machine(device: Device) -> Machine:
    """As it is now."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(
        processor=torch.cuda.get_device_name() if device == "cuda" else _processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load=load,
        torch=str(torch.__version__),
        python=platform.python_version(),
        device=device,
    )


@contextmanager
def pinned_threads(count: int | None) -> Iterator[int]:
    """Let operations on the CPU use so many threads (None: as many as now) until the block ends.

    Raises:
        ConfigError: fewer than 1.
    """
    before = torch.get_num_threads()
    if count is not None and count < 1:
        raise ConfigError(f"the number of threads must be at least 1, got {count}")
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    """Linux tells the model's name in a file of its own, other systems through Python."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
