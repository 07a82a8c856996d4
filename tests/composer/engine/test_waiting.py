"""Asking the engine from a thread that waits: answers, steps, refusals, work of one's own."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import suppress

import pytest
import torch

from composer import Points, load_pipeline
from composer.composer import Scene
from composer.engine.jobs import Asked, Job
from composer.engine.waiting import answer_of, due
from composer.images import open_image
from composer.requests import request_record
from sam.errors import BadImage, BadPrompt, Cancelled, DeadlineExceeded, Unavailable
from tests.composer.engine.kit import WAIT, HeldUp, MakeEngine, job, picture


def test_an_answer_with_its_steps_told_to_who_waits(make_engine: MakeEngine) -> None:
    engine = make_engine()
    heard: list[tuple[str, int]] = []
    one = job(picture(0), deadline=due(engine))
    answered = answer_of(engine, one, lambda step: heard.append((step, threading.get_ident())))
    assert answered.outcome.answers[0].request["kind"] == "points"
    names = [step for step, _ in heard]
    assert names[:2] == ["wait", "read"] and names[-1] == "points" and "encode" in names
    assert {thread for _, thread in heard} == {threading.get_ident()}
    piped = Job(lambda: open_image(picture(0)), pipeline=load_pipeline("largest"))
    names = []
    answer_of(engine, piped, names.append)
    assert [name for name in names if name.startswith("steps.")] == [
        f"steps.{step.name}" for step in load_pipeline("largest")
    ]


def test_what_goes_wrong_is_raised_here(make_engine: MakeEngine) -> None:
    engine = make_engine()
    outside = Points([[1000, 1000]])
    with pytest.raises(BadPrompt, match="outside"):
        answer_of(engine, Job(lambda: open_image(picture(0)), (Asked(outside, request_record(outside)),)))

    def bored(step: str) -> None:
        raise KeyError(step)

    given_up = job(picture(1))
    with pytest.raises(KeyError):
        answer_of(engine, given_up, bored)
    assert isinstance(given_up.future.exception(WAIT), Cancelled), "nobody waits for it any more"
    assert answer_of(engine, job(picture(2))).outcome.answers


def test_an_answer_that_is_due_and_a_full_queue(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode, queue_size=1)
    first = engine.submit(job(picture(0)))
    assert encode.entered.wait(WAIT)
    late = job(picture(1), deadline=time.monotonic() + 0.05)
    with pytest.raises(DeadlineExceeded, match="not ready in time"):
        answer_of(engine, late)
    waiting = engine.submit(job(picture(2)))  # in the place that the late one has left
    with pytest.raises(Unavailable, match="1 requests are waiting already"):
        answer_of(engine, job(picture(3)))
    encode.go.set()
    assert first.result(WAIT) and waiting.result(WAIT)
    assert open_image(picture(1)).sha256 not in {digest for batch in encode.batches for digest in batch}


def test_work_of_ones_own_has_the_device_to_itself(make_engine: MakeEngine) -> None:
    engine = make_engine()
    seen: list[tuple[str, float]] = []

    def work(scene: Scene) -> float:
        seen.append((threading.current_thread().name, float(scene.embedding.features.sum())))
        return seen[-1][1]

    image = open_image(picture(0))
    answered = answer_of(engine, Job(lambda: image, work=work))
    assert seen[0][0] == "device" and answered.value == seen[0][1]
    assert answered.value == float(engine.composer.encode(picture(0)).features.sum())
    assert engine.composer.cache.stats.encodes == 1 and "work" in answered.outcome.timings

    def hungry(scene: Scene) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(Unavailable) as refused:
        answer_of(engine, Job(lambda: image, work=hungry))
    assert refused.value.code == "out_of_memory"
    gone = Job(lambda: image, work=work)
    gone.cancel()
    with pytest.raises(Cancelled):
        answer_of(engine, gone)
    assert len(seen) == 1


def test_nothing_of_a_call_stays_behind(make_engine: MakeEngine) -> None:
    """Images and answers go with the call that they are of, not when Python next looks for rings."""
    engine = make_engine()

    def ask(one: Job) -> weakref.ref[Job]:
        with suppress(BadImage, BadPrompt, DeadlineExceeded):
            answer_of(engine, one)
        return weakref.ref(one)

    outside = Points([[1000, 1000]])
    gc.collect()
    gc.disable()
    try:
        left = [
            ask(job(picture(2))),
            ask(job(picture(2)[:200])),
            ask(Job(lambda: open_image(picture(3)), (Asked(outside, request_record(outside)),))),
            ask(job(picture(4), deadline=time.monotonic())),
        ]
        end = time.monotonic() + WAIT  # the device's thread holds what it had last until it looks again
        while any(ref() is not None for ref in left) and time.monotonic() < end:
            time.sleep(0.05)
        assert [ref() for ref in left] == [None] * 4
    finally:
        gc.enable()
