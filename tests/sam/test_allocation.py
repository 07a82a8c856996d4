"""What the C library does with freed memory, seen in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sam import allocation

SCRIPT = """
import ctypes, resource, sys
from sam.allocation import keep_freed_memory
done = keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
import numpy as np
np.ones(1 << 26, np.uint8)
before = faults()
for _ in range(8):
    np.ones(1 << 26, np.uint8)
print(int(done), faults() - before)
"""


def ran(**environment: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and the page faults of eight arrays of 64 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return bool(int(kept)), int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_the_same_pages_are_used_again() -> None:
    kept, faults = ran()
    if not kept:
        pytest.skip("this C library is not glibc, or the environment tunes it")
    assert faults < 1000
    # One mapping of 64 MiB is 16384 pages of 4 KiB, or 32 huge ones.
    alone, more = ran(SAM_COMPOSER_MALLOC="system")
    assert not alone and more > faults


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_environment_tunes_is_left_alone(name: str) -> None:
    value = "glibc.malloc.mmap_threshold=1048576" if name == "GLIBC_TUNABLES" else "1048576"
    assert not ran(**{name: value})[0]


@pytest.mark.parametrize(
    ("most", "asked"), [(1 << 30, [-3, -1, -8]), (32 << 20, [-3, -3, -1, -8]), (0, [-3, -3])]
)
def test_a_c_library_that_takes_less(monkeypatch: pytest.MonkeyPatch, most: int, asked: list[int]) -> None:
    """The threshold first: the other options alone would switch off glibc's own."""
    seen: list[int] = []

    class Library:
        @staticmethod
        def mallopt(option: int, value: int) -> bool:
            seen.append(option)
            return option != -3 or value <= most

    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr(allocation.sys, "platform", "linux")
    for name in [n for n in os.environ if n.startswith(("MALLOC_", "GLIBC_", "SAM_COMPOSER_MALLOC"))]:
        monkeypatch.delenv(name)
    assert allocation.keep_freed_memory.__wrapped__() is (most > 0) and seen == asked
