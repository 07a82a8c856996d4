"""The engine: one thread that owns the device, and a bounded, fair queue before it.

A job goes through these stages, and between any two of them it is dropped if nobody waits for it any more:
admitted (the queue is bounded) → image read (in a small pool, while the device works for others) → encoded
(together with others that are waiting) → answered, request by request → handed out.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from adapters.results import Instances
from composer.composer import Composer
from composer.engine.answering import answer
from composer.engine.encoding import EncodeMany, encode_apart, encode_batch
from composer.engine.fair_queue import DRAINING, FairQueue
from composer.engine.jobs import Answered, Job
from composer.engine.together import answers_of_clicks, is_a_click
from composer.engine.watched import WatchedScene
from sam.errors import Cancelled, DeadlineExceeded, SamComposerError, Unavailable

log = logging.getLogger(__name__)

State = Literal["ready", "draining", "broken"]
READERS = 2
"""Threads that read images while the device works."""
STUCK_AFTER = 2.0
"""A stage that takes so many deadlines, past the end of its job's own, will not come back."""
LEAST_TOGETHER = 2
"""Jobs with a few clicks that make one decode worth while."""
GRACE = 5.0
"""Seconds that the thread gets to notice, at its next step, that everything was cancelled."""


@dataclass(frozen=True)
class EngineStats:
    """Counters since the engine started; ``waiting`` and ``running`` are of now."""

    admitted: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    expired: int = 0
    passes: int = 0
    images_encoded: int = 0
    decoded_together: int = 0
    memory_shortages: int = 0
    busy_seconds: float = 0.0
    waiting: int = 0
    running: int = 0


class Engine:
    """Answers jobs of many threads with one composer. Use as a context, or :meth:`start` and :meth:`drain`.

    Args:
        composer: a loaded one. Its limits say how many jobs may wait and how many images go into one pass.
        encode_many: encodes several images; by default :func:`composer.engine.encoding.encode_batch`.
    """

    def __init__(self, composer: Composer, *, encode_many: EncodeMany = encode_batch) -> None:
        self.composer = composer
        self._encode_many = encode_many
        self._queue = FairQueue(composer.limits.queue_size)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read-image")
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._stats = EngineStats()
        self._lock = threading.Lock()
        self._draining = False
        self._fault: str | None = None
        self._stage_began: float | None = None

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.drain(0)

    def start(self) -> Engine:
        """Start the device's thread."""
        self._thread.start()
        return self

    @property
    def state(self) -> State:
        """``broken``: the device does not answer any more, or its thread has ended; only a restart helps."""
        if self._draining:
            return "draining"
        began = self._stage_began
        stuck = began is not None and time.monotonic() - began > (
            STUCK_AFTER * self.composer.limits.deadline_seconds
        )
        return "broken" if self._fault or stuck or not self._thread.is_alive() else "ready"

    @property
    def stats(self) -> EngineStats:
        """The counters."""
        with self._lock:
            return replace(self._stats, waiting=len(self._queue), running=self._queue.running)

    def refusal(self, client: str | None = None) -> Unavailable | None:
        """Why no job is taken at the moment, or none of ``client``; None: it is, unless that changes."""
        state = self.state
        if state == "draining":
            return Unavailable("shutting down", code=DRAINING, retry_after=self.retry_after)
        if state == "broken":
            return Unavailable("the device does not answer any more", code="broken", retry_after=60)
        if client is not None and self._queue.refuses(client):
            return self._queue.refusal(self.retry_after)
        return None

    @property
    def retry_after(self) -> int:
        """Seconds after which a place in the queue is likely: what is waiting, at the pace so far."""
        stats = self.stats
        done = stats.answered + stats.failed
        pace = stats.busy_seconds / done if done else 1.0
        return max(1, min(60, math.ceil((stats.waiting + stats.running) * pace)))

    def submit(self, job: Job) -> Future[Answered]:
        """Take a job in.

        Returns:
            The job's future: its answer, or the error that ended it.

        Raises:
            Unavailable: the queue is full, or the engine is shutting down or broken.
        """
        refusal = self.refusal()
        try:
            if refusal is not None:
                raise refusal
            self._queue.admit(job, self.retry_after)
        except Unavailable:
            self._count(refused=1)
            raise
        self._count(admitted=1)
        job.future.add_done_callback(self._ended)
        future = job.future
        self._pool.submit(self._read, job)
        return future

    def cancel(self, job: Job, reason: SamComposerError | None = None) -> None:
        """Nobody waits for ``job`` any more: it leaves the queue, or stops at its next step."""
        job.cancel()
        self._queue.leave(job)
        job.fail(reason or Cancelled("whoever asked has gone"))

    def drain(self, seconds: float) -> bool:
        """Take no more jobs, and finish those that are here within ``seconds``; then break off the rest.

        Returns:
            Whether all of them were finished.
        """
        self._draining = True
        self._queue.close()
        whole = self._queue.wait_until_empty(seconds)
        for job in self._queue.everyone():
            job.fail(Unavailable("shutting down", code=DRAINING))
            job.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(GRACE)
        return whole

    def _read(self, job: Job) -> None:
        """In the pool: an image is read only where somebody still waits for it."""
        try:
            job.read()
        except BaseException as error:
            self._end(job, error)
            return
        self._queue.ready(job)

    def _work(self) -> None:
        """The device's thread."""
        while not self._queue.finished:
            batch = self._queue.take(self.composer.limits.batch_images, timeout=1.0)
            began = time.monotonic()
            try:
                self._batch(batch)
            except BaseException as error:
                log.exception("the engine failed")
                for job in batch:
                    self._end(job, error)
            finally:
                self._stage_began = None
                if batch:
                    self._count(busy_seconds=time.monotonic() - began)

    def _batch(self, batch: Sequence[Job]) -> None:
        jobs = [job for job in batch if self._is_wanted(job)]
        for job in jobs:
            job.lap("queue")
        self._stage_began = time.monotonic()
        fresh = self._encode([job for job in jobs if job.embedding is None])
        alive = [job for job in jobs if job.embedding is not None and self._is_wanted(job)]
        scenes = {job: self._scene(job) for job in alive}
        known = self._clicks(scenes)
        for job, scene in scenes.items():
            if self._is_wanted(job):
                passes = int(scene.source.sha256 in fresh)
                fresh.discard(scene.source.sha256)  # the others found it encoded
                self._answer(job, scene, passes, known.get(job))

    def _scene(self, job: Job) -> WatchedScene:
        assert job.image is not None and job.embedding is not None
        return WatchedScene(self.composer, job.image, job.embedding, job.check)

    def _clicks(self, scenes: Mapping[Job, WatchedScene]) -> dict[Job, Instances]:
        """The answers to clicks, worked out together where there are several."""
        jobs = [job for job in scenes if is_a_click(job)]
        if len(jobs) < LEAST_TOGETHER:
            return {}
        found = answers_of_clicks(jobs, [scenes[job] for job in jobs])
        if found is None:
            return {}
        self._count(decoded_together=len(jobs))
        return dict(zip(jobs, found, strict=True))

    def _encode(self, jobs: Sequence[Job]) -> set[str]:
        """Give each job its embedding or its error; returns the digests of images that had to be encoded."""
        images = [job.image for job in jobs if job.image is not None]
        if not images:
            return set()
        cache = self.composer.cache
        fresh = {i.sha256 for i in images if cache.peek(self.composer.key_of(i.sha256)) is None}
        encoded, shortages = encode_apart(self.composer, images, self._encode_many)
        self._count(passes=bool(fresh), images_encoded=len(fresh), memory_shortages=shortages)
        for job, embedding in zip(jobs, encoded, strict=True):
            if isinstance(embedding, Exception):
                self._end(job, embedding)
            else:
                job.embedding = embedding
                job.lap("encode")
        return fresh

    def _answer(self, job: Job, scene: WatchedScene, passes: int, known: Instances | None) -> None:
        self._stage_began = time.monotonic()
        try:
            if known is None:
                job.lap("queue")  # behind the others of its batch
            answered, shortages = answer(self.composer, job, scene, passes, known)
            self._count(memory_shortages=shortages)
        except BaseException as error:
            self._end(job, error)
            return
        self._queue.remove(job)
        job.finish(answered)

    def _is_wanted(self, job: Job) -> bool:
        try:
            job.check()
        except SamComposerError as error:
            self._end(job, error)
            return False
        return not job.future.done()

    def _end(self, job: Job, error: BaseException) -> None:
        """``job`` has failed; the others go on."""
        self._queue.remove(job)
        if "CUDA error" in str(error):  # the context is lost: every call after it fails too
            self._fault = str(error)
        if not isinstance(error, SamComposerError):
            log.error("a request failed", exc_info=error)
        job.fail(error)

    def _ended(self, future: Future[Answered]) -> None:
        error = future.exception()
        name = "answered" if error is None else "failed"
        for kind, counter in (
            (Cancelled, "cancelled"),
            (DeadlineExceeded, "expired"),
            (Unavailable, "refused"),
        ):
            if isinstance(error, kind):
                name = counter
        self._count(**{name: 1})

    def _count(self, **more: float) -> None:
        with self._lock:
            changed = {name: getattr(self._stats, name) + value for name, value in more.items()}
            self._stats = replace(self._stats, **changed)
