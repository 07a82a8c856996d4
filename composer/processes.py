"""Processes that help with one piece of work and end with the process that they work for."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def worker_pool(count: int) -> ProcessPoolExecutor:
    """``count`` processes, started afresh: a fork would inherit PyTorch's threads and locks, and may hang.

    They end when this process does, however it ends: each holds the pipe from which all take their work
    open, and would wait at it for ever for a parent that was killed.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
