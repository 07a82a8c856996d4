"""How the C library treats freed memory while each way has its turn: as where its users run it.

Loading one of our models tells glibc to keep up to a gigabyte of freed memory (`sam/allocation.py`); nobody
tells it so for the peers. The setting is the process's, so it is changed between turns.
"""

from __future__ import annotations

import ctypes
import sys

from sam.allocation import KEPT_BYTES

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # <malloc.h>
LARGEST = 32 << 20
"""glibc raises its own threshold as blocks are freed, at most to this; trimming follows at twice of it."""


def as_ours() -> None:
    """Freed memory is kept."""
    _set(KEPT_BYTES, KEPT_BYTES)


def as_installed() -> None:
    """What glibc comes to by itself in a process that frees large blocks."""
    _set(LARGEST, 2 * LARGEST)


def _set(mapped_from: int, trimmed_from: int) -> None:
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if set_option is not None:
        set_option(MMAP_THRESHOLD, mapped_from)
        set_option(TRIM_THRESHOLD, trimmed_from)
