"""Memory of this process that tensors on the CPU are allocated from."""

from __future__ import annotations

import ctypes
import os

_KEPT_BYTES = 256 * 2**20
_LARGEST_BYTES = 32 * 2**20
"""Largest allocation that glibc takes from the heap, and so the largest that it can keep."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep up to 256 MiB of freed memory for the next allocations, and return whether it does.

    By default it returns memory to the system after almost every pass through a network, and the system clears each
    page again on its next use: a quarter of a float32 training step of small networks. Results do not change. Nothing
    is done where the environment configures glibc, or with another C library.
    """
    if any(name in os.environ for name in _OWN_SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
