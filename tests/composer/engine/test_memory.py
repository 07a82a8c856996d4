"""Memory that runs out: one smaller attempt with the same answer, then an error that asks to come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from composer import Boxes, Everything, Points
from composer.engine.encoding import encode_batch
from composer.engine.memory import SMALL_BATCH, is_out_of_memory
from sam.errors import Unavailable
from tests.composer.engine.kit import CLICK, WAIT, HeldUp, MakeEngine, job, picture

OUT = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OUT, True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not agree"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_how_it_is_told(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


class Short(HeldUp):
    """An encoder whose memory holds ``most`` images at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __call__(self, composer: Any, images: Sequence[Any]) -> Any:
        self.batches.append([image.sha256 for image in images])
        self.entered.set()
        assert self.go.wait(WAIT)
        if len(images) > self.most:
            raise OUT
        return encode_batch(composer, images)


def test_a_batch_that_does_not_fit_is_encoded_one_by_one(make_engine: MakeEngine) -> None:
    encode = Short(1)
    engine = make_engine(encode)
    jobs = [job(picture(i)) for i in range(4)]
    engine.submit(jobs[0])
    assert encode.entered.wait(WAIT)
    for one in jobs[1:]:
        engine.submit(one)
    encode.go.set()
    assert all(len(one.future.result(WAIT).outcome.instances) == 1 for one in jobs)
    assert engine.state == "ready"


def test_an_image_that_never_fits_is_refused_and_the_next_works(make_engine: MakeEngine) -> None:
    encode = Short(0)
    encode.go.set()
    engine = make_engine(encode)
    first = job(picture(0))
    engine.submit(first)
    error = first.future.exception(WAIT)
    assert isinstance(error, Unavailable) and error.code == "out_of_memory" and error.retry_after > 0
    assert len(encode.batches) == 2, "one smaller attempt, and no more"
    assert engine.stats.memory_shortages == 2
    encode.most = 1
    assert engine.submit(job(picture(0))).result(WAIT)


@pytest.mark.parametrize(
    "request_",
    [
        Points([[[x, 20]] for x in range(5, 25)]),
        Boxes([[x, 5, x + 20, 30] for x in range(20)]),
        Everything(points_per_side=6),
    ],
    ids=lambda request: request.kind,
)
def test_a_request_is_tried_with_fewer_prompts_at_a_time(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, request_: Any
) -> None:
    engine = make_engine()
    expected = engine.composer.open(picture(0)).run(request_)
    decode = engine.composer.model.decode
    sizes: list[int] = []

    def short(embedding: Any, prompts: Any, *, multimask: bool) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > SMALL_BATCH:
            raise OUT
        return decode(embedding, prompts, multimask=multimask)

    monkeypatch.setattr(engine.composer.model, "decode", short)
    found = engine.submit(job(picture(0), request_)).result(WAIT).outcome.instances
    assert max(sizes) > SMALL_BATCH and sizes[-1] <= SMALL_BATCH
    assert engine.stats.memory_shortages == 1
    assert len(found) == len(expected)
    assert (found.masks == expected.masks).mean() > 0.999
    assert np.array_equal(found.prompt_index, expected.prompt_index)


def test_a_request_that_never_fits_is_refused(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    calls = []

    def never(*args: Any, **more: Any) -> Any:
        calls.append(1)
        raise OUT

    monkeypatch.setattr(engine.composer.model, "decode", never)
    one = job(picture(0), CLICK)
    engine.submit(one)
    error = one.future.exception(WAIT)
    assert isinstance(error, Unavailable) and error.code == "out_of_memory"
    assert len(calls) == 2
    assert engine.state == "ready"
