"""Who is next: bounded, and fair between clients."""

from __future__ import annotations

import threading
from collections import OrderedDict

from composer.engine.jobs import Job
from sam.errors import Unavailable

QUEUE_FULL, DRAINING = "queue_full", "draining"


class FairQueue:
    """Jobs of several clients; each client is served in turn, its own jobs in order of arrival.

    A job enters when it is admitted, can be taken once it is marked ready (its image is read), and counts
    until it is removed. With one job running, ``capacity`` more may wait. When the queue is full, a client
    that has at least two jobs waiting more than the newcomer's client loses its latest: who sends a hundred
    calls at once cannot keep out who sends one.

    Args:
        capacity: jobs that may wait beside the one that runs.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, list[Job]] = OrderedDict()
        self._ready: set[Job] = set()
        self._taken: set[Job] = set()
        self._closed = False

    def __len__(self) -> int:
        """Jobs admitted and not taken yet."""
        with self._changed:
            return self._count()

    @property
    def running(self) -> int:
        """Jobs taken and not released yet."""
        return len(self._taken)

    def refuses(self, client: str) -> bool:
        """Whether a job of ``client`` would not be admitted at the moment."""
        with self._changed:
            return self._closed or (self._full() and self._displaced(client) is None)

    def admit(self, job: Job, retry_after: int = 1) -> None:
        """Let ``job`` in. It may cost another client its latest waiting job, which fails as this would.

        Raises:
            Unavailable: ``queue_full``, or ``draining`` once the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("shutting down", code=DRAINING, retry_after=retry_after)
            full = self._full()
            loser = self._displaced(job.client) if full else None
            if full and loser is None:
                raise self.refusal(retry_after)
            if loser is not None:
                self._remove(loser)
            self._waiting.setdefault(job.client, []).append(job)
        if loser is not None:
            loser.fail(self.refusal(retry_after))

    def ready(self, job: Job) -> None:
        """``job`` may be taken now, if it is still here."""
        with self._changed:
            if job in self._waiting.get(job.client, ()):
                self._ready.add(job)
                self._changed.notify_all()

    def remove(self, job: Job) -> None:
        """Forget ``job``, wherever it is; nothing happens to one that is not here."""
        with self._changed:
            self._remove(job)
            self._taken.discard(job)
            self._changed.notify_all()

    def leave(self, job: Job) -> bool:
        """Forget ``job`` if it still waits; False where it does not, because it was taken or has ended."""
        with self._changed:
            waits = job in self._waiting.get(job.client, ())
            if waits:
                self._remove(job)
                self._changed.notify_all()
            return waits

    def take(self, most: int, timeout: float | None = None) -> list[Job]:
        """The next ready jobs, clients in turn; waits for the first. Empty: closed and done, or timed out."""
        with self._changed:
            self._changed.wait_for(lambda: self._any_ready() or self._done(), timeout)
            taken: list[Job] = []
            while len(taken) < most and (job := self._next()) is not None:
                self._remove(job)
                self._taken.add(job)
                taken.append(job)
            return taken

    def close(self) -> None:
        """Admit no more; what is here can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def refusal(self, retry_after: int) -> Unavailable:
        """The error of a job that found the queue full, to raise."""
        return Unavailable(
            f"{self.capacity} requests are waiting already; try again in a moment",
            code=QUEUE_FULL,
            retry_after=retry_after,
        )

    def everyone(self) -> list[Job]:
        """All jobs here, waiting and taken."""
        with self._changed:
            return [*(job for jobs in self._waiting.values() for job in jobs), *self._taken]

    def wait_until_empty(self, timeout: float) -> bool:
        """Whether all jobs were released within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count() and not self._taken, timeout)

    @property
    def finished(self) -> bool:
        """Closed, and nothing left to take."""
        with self._changed:
            return self._done()

    def _full(self) -> bool:
        return self._count() + len(self._taken) > self.capacity

    def _count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _done(self) -> bool:
        return self._closed and not self._count()

    def _any_ready(self) -> bool:
        return any(job in self._ready for jobs in self._waiting.values() for job in jobs)

    def _next(self) -> Job | None:
        """The first ready job of the client whose turn it is, who then goes to the end of the line."""
        for client, jobs in self._waiting.items():
            for job in jobs:
                if job in self._ready:
                    self._waiting.move_to_end(client)
                    return job
        return None

    def _displaced(self, client: str) -> Job | None:
        if not self._waiting:
            return None
        greediest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        own = len(self._waiting.get(client, ()))
        return self._waiting[greediest][-1] if len(self._waiting[greediest]) >= own + 2 else None

    def _remove(self, job: Job) -> None:
        self._ready.discard(job)
        jobs = self._waiting.get(job.client)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.client]
