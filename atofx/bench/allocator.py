"""Freed memory that stays with the process, so that timed passes do not wait for the system to hand out pages."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of the settings in glibc's malloc.h
_MOST = 2**31 - 1  # bytes


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory until the process ends; whether it does (glibc only).

    By itself, glibc gives large blocks back as soon as they are free and asks for new pages in every pass. What that
    costs depends on the machine and on what the process did before, not on the models: in a fresh process it has made
    MobileNetV2's passes three times as long. The setting is of the whole process, so it is for programs, not libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _MOST))
