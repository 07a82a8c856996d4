"""Without what a library tells the root logger while one of our threads is in it."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_root_logger() -> Iterator[None]:
    """Drop what this thread tells the root logger itself, and all warnings, whose filters are the process's.

    What other threads log, which may be serving requests meanwhile, stays heard.
    """
    ours = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != ours

    logging.root.addFilter(others)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.removeFilter(others)
