"""Asking the engine from a thread that has nothing else to do: those of pages and scripts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from composer.engine.engine import Engine
from composer.engine.jobs import Answered, Job, late


def due(engine: Engine) -> float:
    """When the answer to a call that comes now is due, by the limits, on :func:`time.monotonic`'s clock."""
    return time.monotonic() + engine.composer.limits.deadline_seconds


def answer_of(engine: Engine, job: Job, heard: Callable[[str], None] | None = None) -> Answered:
    """Hand ``job`` to the engine and wait until it is answered, or due.

    Args:
        engine: started.
        job: a new one.
        heard: called in this thread with the name of each step that has been done.

    Raises:
        Unavailable: the queue is full, or the engine is shutting down or broken.
        DeadlineExceeded: the answer was due first; the work on it stops at its next step.
        SamComposerError: what the job itself raises.
    """
    steps: SimpleQueue[str | None] = SimpleQueue()
    job.on_step = steps.put
    engine.submit(job)
    job.future.add_done_callback(lambda _: steps.put(None))
    try:
        while (step := steps.get(timeout=_left(job))) is not None:
            if heard is not None:
                heard(step)
    except Empty:
        engine.cancel(job, late())
    finally:
        if not job.future.done():  # this thread was interrupted, or `heard` raised
            engine.cancel(job)
    return job.take()


def _left(job: Job) -> float | None:
    return None if math.isinf(job.deadline) else max(0.0, job.deadline - time.monotonic())
