"""One call to the engine: an image, what to ask about it, and until when the answer is wanted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adapters.base import Request
from composer.composer import Scene
from composer.formats.base import Outcome
from composer.images import Image
from composer.pipeline import Pipeline
from sam.embedding import Embedding
from sam.errors import Cancelled, DeadlineExceeded


@dataclass(frozen=True)
class Asked:
    """A request, and how reports are to tell it.

    Attributes:
        request: what to answer.
        record: it as plain JSON values, ``kind`` among them, as whoever asked put it.
    """

    request: Request
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """What came of a job.

    Attributes:
        outcome: the results, with the image and the timings.
        embedding: of the image, to ask about it again.
        value: what the job's ``work`` returned; None where it had none.
    """

    outcome: Outcome
    embedding: Embedding
    value: Any = None


class Job:
    """A call on its way through the engine.

    Args:
        read: gives the image: reads and checks its bytes, or hands out one that is held. Called in a thread
            of the engine's pool, and not at all if nobody waits for the answer any more.
        asked: requests in the order of their answers; none: the image is encoded and no more.
        pipeline: what to ask instead of requests.
        client: whose call it is, for fairness.
        deadline: on the clock of :func:`time.monotonic`.
        check: looks at the image before it is encoded, and raises where the requests do not fit it.
        embedding: of the image, where that is known already.
        work: what is to be done with the encoded image in the device's thread, after the requests.

    Attributes:
        future: its :class:`Answered`, or what went wrong; whoever has waited for it should :meth:`take` it.
        image: what ``read`` gave; None before.
        timings: seconds by step.
        on_step: called with the name of each step that has been done, in the thread that did it.
    """

    def __init__(
        self,
        read: Callable[[], Image],
        asked: tuple[Asked, ...] = (),
        pipeline: Pipeline | None = None,
        *,
        client: str = "",
        deadline: float = math.inf,
        check: Callable[[Image], None] | None = None,
        embedding: Embedding | None = None,
        work: Callable[[Scene], Any] | None = None,
    ) -> None:
        self.asked = asked
        self.pipeline = pipeline
        self.client = client
        self.deadline = deadline
        self.embedding = embedding
        self.work = work
        self.on_step: Callable[[str], None] | None = None
        self.future: Future[Answered] = Future()
        self.future.set_running_or_notify_cancel()  # it is the job that can be cancelled, not its future
        self.image: Image | None = None
        self.timings: dict[str, float] = {}
        self._read = read
        self._check = check
        self._cancelled = threading.Event()
        self._lapped = time.monotonic()

    def cancel(self) -> None:
        """Nobody waits for the answer: stop at the next step."""
        self._cancelled.set()

    def check(self) -> None:
        """Between steps: go on only where the answer is still wanted.

        Raises:
            Cancelled, DeadlineExceeded: it is not.
        """
        if self._cancelled.is_set():
            raise Cancelled("whoever asked has gone")
        if time.monotonic() >= self.deadline:
            raise late()

    def read(self) -> Image:
        """Read the image. Raises what :meth:`check`, the reader and the check of the image raise."""
        self.check()
        self.lap("wait")
        image = self._read()
        if self._check is not None:
            self._check(image)
        self.image = image
        self.lap("read")
        return image

    def lap(self, name: str) -> None:
        """What passed since the last lap, or since the job was made, went to ``name``."""
        now = time.monotonic()
        self.timings[name] = round(self.timings.get(name, 0.0) + now - self._lapped, 4)
        self._lapped = now
        if self.on_step is not None:
            self.on_step(name)

    def take(self) -> Answered:
        """The answer of a job that is over; to be had once.

        The job then holds neither the answer nor the error any more. An error holds the frames that it came
        through and these the job: one that held the error would close a ring, and the images in it would stay
        until Python next looks for such rings.

        Raises:
            SamComposerError: what went wrong.
        """
        future, self.future = self.future, Future()
        self.future.cancel()
        try:
            return future.result(0)
        finally:
            del future

    def finish(self, answered: Answered) -> None:
        """Hand out the answer."""
        with suppress(InvalidStateError):  # whoever asked may have given up in this very moment
            self.future.set_result(answered)

    def fail(self, error: BaseException) -> None:
        """Hand out what went wrong."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


def late() -> DeadlineExceeded:
    """The error of an answer that is not ready when it is due, to raise."""
    return DeadlineExceeded("the answer was not ready in time; ask for less, or send a smaller image")
