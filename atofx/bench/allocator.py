"""Freed memory that stays with the process, so that timed passes do not wait for the system to hand out pages."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # numbers of the settings in glibc's malloc.h
_LARGEST, _MAPS = 2**25, 2**16  # where glibc's own adjustment of the thresholds ends; its default


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the C library keep freed memory until the block ends (glibc; others stay as they are).

    By itself, glibc gives large blocks back as soon as they are free, and every pass asks for new pages. What that
    costs depends on the machine and on what the process did before, not on the models: in a fresh process it has made
    MobileNetV2's passes three times as long. Afterwards the thresholds are those that glibc ends with in any process
    that has freed large blocks, and all free memory is given back.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _MAPS)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST)
        library.malloc_trim(0)
