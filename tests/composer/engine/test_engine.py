"""One thread computes for all: each answer is what it would be alone, and each image is encoded once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

import numpy as np
import pytest

from adapters.results import EdgeMap, Instances
from composer import Boxes, Edges, Everything, Points, load_pipeline
from composer.composer import Scene
from composer.engine.jobs import Answered, Job
from composer.images import Image, open_image
from sam.errors import BadPrompt, Cancelled, DeadlineExceeded, Unavailable
from tests.composer.engine.kit import CLICK, WAIT, HeldUp, MakeEngine, job, picture


def same(one: Instances | EdgeMap, other: Instances | EdgeMap) -> bool:
    """Whether two results agree but for the rounding of batched products."""
    if isinstance(one, EdgeMap) or isinstance(other, EdgeMap):
        return isinstance(one, EdgeMap) and isinstance(other, EdgeMap) and np.allclose(
            one.values, other.values, atol=1e-3
        )  # fmt: skip
    agree = (one.masks == other.masks).mean() if len(one) == len(other) else 0.0
    return bool(agree > 0.999) and np.allclose(one.predicted_iou, other.predicted_iou, atol=1e-4)


def test_fifty_threads_with_one_image_cost_one_encode(make_engine: MakeEngine) -> None:
    engine = make_engine(queue_size=64)
    pixels = picture(0)
    with ThreadPoolExecutor(50) as threads:
        clicks = [Points([[x, 20]]) for x in range(50)]
        jobs = [job(pixels, click) for click in clicks]
        list(threads.map(engine.submit, jobs))
    answers = [one.future.result(WAIT) for one in jobs]
    assert engine.stats.images_encoded == engine.composer.cache.stats.encodes == 1
    assert sum(answer.outcome.encoder_passes or 0 for answer in answers) == 1
    scene = engine.composer.open(pixels)
    assert all(same(a.outcome.instances, scene.run(c)) for a, c in zip(answers, clicks, strict=True))  # type: ignore[arg-type]


def test_fifty_images_interleaved_give_the_serial_results(make_engine: MakeEngine) -> None:
    engine = make_engine(queue_size=64)
    requests: list[Any] = [CLICK, Boxes([[5, 5, 40, 30]]), Points([[10, 10], [30, 30]], labels=[1, 0])]
    jobs = [job(picture(i), requests[i % 3], client=str(i % 7)) for i in range(50)]
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(engine.submit, jobs))
    for i, one in enumerate(jobs):
        answer = one.future.result(WAIT)
        alone = engine.composer.model.encode([picture(i)])[0]
        scene = Scene(engine.composer, open_image(picture(i)))
        scene._embedding = alone
        assert answer.outcome.image.sha256 == open_image(picture(i)).sha256
        assert same(answer.outcome.answers[0].result, scene.run(requests[i % 3])), i
    assert engine.stats.images_encoded == 50


def test_waiting_images_are_encoded_together(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode, batch_images=4)
    first = job(picture(0))
    engine.submit(first)
    assert encode.entered.wait(WAIT)
    others = [job(picture(i)) for i in (1, 2, 2, 3, 4, 5)]
    for one in others:
        engine.submit(one)
    _wait_until(lambda: len(engine._queue._ready) == 6)
    encode.go.set()
    wait_for([one.future for one in others], WAIT)
    assert [len(batch) for batch in encode.batches] == [1, 4, 2]
    assert engine.stats.passes == 3
    assert engine.stats.images_encoded == 6, "the same image twice in one batch is encoded once"


def test_clicks_of_a_batch_are_decoded_together(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = HeldUp()
    engine = make_engine(encode)
    decodes: list[int] = []
    attend = engine.composer.model.mask_decoder.attend

    def counted(*args: Any) -> Any:
        decodes.append(args[-1])
        return attend(*args)

    monkeypatch.setattr(engine.composer.model.mask_decoder, "attend", counted)
    clicks = [Points([[10 + i, 20]]) for i in range(5)]
    jobs = [job(picture(0), Boxes([[5, 5, 40, 30]]))]
    jobs += [job(picture(i), click) for i, click in enumerate(clicks, 1)]
    engine.submit(jobs[0])
    assert encode.entered.wait(WAIT)
    for one in jobs[1:6]:
        engine.submit(one)
    _wait_until(lambda: len(engine._queue._ready) == 5)
    encode.go.set()
    answers = [one.future.result(WAIT) for one in jobs[1:6]]
    assert decodes == [5], "all clicks in one; the box before them is decoded from its own image"
    assert engine.stats.decoded_together == 5
    for i, (click, answer) in enumerate(zip(clicks, answers, strict=True), 1):
        assert same(answer.outcome.answers[0].result, engine.composer.open(picture(i)).run(click))


def test_a_click_outside_fails_alone_in_a_batch(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode)
    first = job(picture(0))
    engine.submit(first)
    assert encode.entered.wait(WAIT)
    jobs = [job(picture(1)), job(picture(2), Points([[1000, 20]])), job(picture(3))]
    for one in jobs:
        engine.submit(one)
    _wait_until(lambda: len(engine._queue._ready) == 3)
    encode.go.set()
    assert isinstance(jobs[1].future.exception(WAIT), BadPrompt)
    assert jobs[0].future.result(WAIT) and jobs[2].future.result(WAIT)
    assert engine.stats.decoded_together == 0


def test_a_cancelled_job_is_not_encoded(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode)
    first, gone, last = (job(picture(i)) for i in range(3))
    engine.submit(first)
    assert encode.entered.wait(WAIT)  # the others are not in its batch
    engine.submit(gone)
    engine.submit(last)
    engine.cancel(gone)
    encode.go.set()
    assert first.future.result(WAIT) and last.future.result(WAIT)
    with pytest.raises(Cancelled):
        gone.future.result(0)
    encoded = {digest for batch in encode.batches for digest in batch}
    assert open_image(picture(1)).sha256 not in encoded
    assert engine.stats.cancelled == 1


def test_the_image_of_a_cancelled_job_is_not_read(make_engine: MakeEngine) -> None:
    engine = make_engine()
    reading, go = threading.Event(), threading.Event()

    def slow() -> Image:
        reading.set()
        assert go.wait(WAIT)
        return open_image(picture(0))

    slow_ones = [job(slow), job(slow)]  # they keep all readers busy
    for one in slow_ones:
        engine.submit(one)
    assert reading.wait(WAIT)
    gone = job(lambda: pytest.fail("it was read"))
    engine.submit(gone)
    engine.cancel(gone)
    go.set()
    assert all(one.future.result(WAIT) for one in slow_ones)
    assert isinstance(gone.future.exception(0), Cancelled)


def test_a_job_that_is_due_while_it_waits_is_not_encoded(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode)
    engine.submit(job(picture(0)))
    assert encode.entered.wait(WAIT)
    due = job(picture(1), deadline=time.monotonic() + 0.05)
    engine.submit(due)
    time.sleep(0.1)
    encode.go.set()
    assert isinstance(due.future.exception(WAIT), DeadlineExceeded)
    assert [len(batch) for batch in encode.batches] == [1]
    assert engine.stats.expired == 1


def test_long_work_stops_in_the_middle(make_engine: MakeEngine) -> None:
    """Sixteen windows, an encode and decodes in each: without the looks at the clock all would be done."""
    engine = make_engine()
    long = Everything(points_per_side=16, crop_n_layers=2)
    one = job(picture(0, (480, 640)), long, deadline=time.monotonic() + 0.3)
    engine.submit(one)
    assert isinstance(one.future.exception(WAIT), DeadlineExceeded)
    assert engine.composer.cache.stats.encodes < 21
    assert engine.submit(job(picture(1))).result(WAIT)


def test_a_poison_image_fails_alone(make_engine: MakeEngine) -> None:
    poison = open_image(picture(1)).sha256

    class Poisoned(HeldUp):
        def __call__(self, composer: Any, images: Any) -> Any:
            found = super().__call__(composer, images)
            if poison in self.batches[-1]:
                raise RuntimeError("a stage that raises")
            return found

    encode = Poisoned()
    engine = make_engine(encode)
    jobs = [job(picture(i)) for i in (5, 0, 1, 2)]
    engine.submit(jobs[0])
    assert encode.entered.wait(WAIT)
    for one in jobs[1:]:
        engine.submit(one)
    encode.go.set()
    assert isinstance(jobs[2].future.exception(WAIT), RuntimeError)
    assert all(jobs[i].future.result(WAIT) for i in (0, 1, 3))
    assert engine.state == "ready"


def test_an_adapter_that_raises_fails_its_job_alone(make_engine: MakeEngine) -> None:
    engine = make_engine()
    bad = job(picture(0), CLICK, Points([[1000, 5]]))
    engine.submit(bad)
    assert isinstance(bad.future.exception(WAIT), BadPrompt)
    assert engine.submit(job(picture(0))).result(WAIT)
    assert engine.stats.failed == 1


def test_nothing_asked_encodes_and_hands_out_the_embedding(make_engine: MakeEngine) -> None:
    engine = make_engine()
    first: Answered = engine.submit(Job(lambda: open_image(picture(0)))).result(WAIT)
    assert first.outcome.answers == () and first.outcome.encoder_passes == 1
    engine.composer.cache.clear()
    again = engine.submit(job(picture(0), embedding=first.embedding)).result(WAIT)
    assert again.outcome.encoder_passes == 0 and len(again.outcome.instances) == 1
    assert engine.composer.cache.stats.encodes == 1


def test_pipelines_and_edges(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one = Job(lambda: open_image(picture(0)), pipeline=load_pipeline("largest"))
    found = engine.submit(one).result(WAIT).outcome
    assert found.pipeline is not None and found.answers[0].name in found.pipeline["output"]
    assert any(name.startswith("steps.") for name in found.timings)
    edges = engine.submit(job(picture(0), Edges(points_per_side=2))).result(WAIT).outcome
    assert isinstance(edges.answers[0].result, EdgeMap)


def test_the_queue_is_bounded(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode, queue_size=3)
    jobs = [job(picture(i)) for i in range(6)]
    outcomes = []
    for one in jobs:
        try:
            engine.submit(one)
            outcomes.append("in")
            assert encode.entered.wait(WAIT)  # the first has left the queue
        except Unavailable as refused:
            assert refused.code == "queue_full" and refused.retry_after >= 1
            outcomes.append("out")
    assert outcomes == ["in"] * 4 + ["out"] * 2
    assert engine.refusal("") is not None and engine.refusal("somebody else") is None
    encode.go.set()
    assert all(one.future.result(WAIT) for one in jobs[:4])
    assert engine.stats.refused == 2


def test_drain_finishes_what_has_begun(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode)
    jobs = [job(picture(i)) for i in range(3)]
    for one in jobs:
        engine.submit(one)
    assert encode.entered.wait(WAIT)
    draining = threading.Thread(target=engine.drain, args=(WAIT,))
    draining.start()
    _wait_until(lambda: engine.state == "draining")
    with pytest.raises(Unavailable) as refused:
        engine.submit(job(picture(9)))
    assert refused.value.code == "draining"
    encode.go.set()
    draining.join(WAIT)
    assert all(one.future.result(0) for one in jobs)
    assert not engine._thread.is_alive()


def test_drain_breaks_off_what_takes_too_long(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode)
    running, waiting = job(picture(0)), job(picture(1))
    engine.submit(running)
    assert encode.entered.wait(WAIT)
    engine.submit(waiting)
    threading.Timer(0.3, encode.go.set).start()
    assert not engine.drain(0.05)
    for one in (running, waiting):
        error = one.future.exception(0)
        assert isinstance(error, Unavailable) and error.code == "draining"
    engine._thread.join(WAIT)  # a busy machine may take longer than the grace that drain gives it
    assert not engine._thread.is_alive()


def test_a_lost_device_breaks_the_engine(make_engine: MakeEngine) -> None:
    def lost(composer: object, images: object) -> list[Any]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    engine = make_engine(lost)
    one = job(picture(0))
    engine.submit(one)
    assert isinstance(one.future.exception(WAIT), RuntimeError)
    assert engine.state == "broken"
    with pytest.raises(Unavailable) as refused:
        engine.submit(job(picture(1)))
    assert refused.value.code == "broken"


def test_a_stage_that_does_not_come_back_breaks_the_engine(make_engine: MakeEngine) -> None:
    encode = HeldUp()
    engine = make_engine(encode, deadline_seconds=0.05)
    engine.submit(job(picture(0)))
    assert encode.entered.wait(WAIT)
    _wait_until(lambda: engine.state == "broken")
    encode.go.set()
    _wait_until(lambda: engine.state == "ready")


def _wait_until(holds: Any) -> None:
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
