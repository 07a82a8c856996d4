"""Requests about a photo, answered; and what was found, in a form that a session can keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.base import Request
from adapters.results import Instances, Result
from apps.demo.photos import OpenPhoto, Photos
from composer.formats.base import Answer, Outcome
from composer.pipeline import Pipeline, run_steps
from composer.requests import request_record

Notify = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what comes next."""


@dataclass(frozen=True, eq=False)
class Found:
    """What came of a question. Holds no pixels: sessions keep it, and photos are large.

    Attributes:
        path: the photo's file.
        answers: as in reports.
        seconds: by step.
        passes: how often the encoder ran for it; 0 where the photo was known.
        pipeline: its steps, where there was one.
    """

    path: str
    answers: tuple[Answer, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    passes: int = 0
    pipeline: Mapping[str, Any] | None = None

    def outcome(self, photos: Photos) -> Outcome:
        """The same with the photo's pixels, for writers of files. Raises what ``photos.open`` does."""
        model = photos.composer.describe()
        image = photos.open(self.path).scene.source
        return Outcome(image, self.answers, model, self.seconds, self.pipeline, self.passes)


def answer(photos: Photos, path: str, asked: Request | Pipeline, notify: Notify) -> Found:
    """Open the photo, encode it if need be, and answer.

    Raises:
        SamComposerError: a bad photo, a request that does not fit it, a model that is missing.
    """
    started = time.perf_counter()
    notify(0.05, "reading the photo")
    opened = photos.open(path)
    passes = photos.composer.cache.stats.encodes
    notify(0.1, "looking at the photo, once")
    _ = opened.scene.embedding
    seconds = {"encode": round(time.perf_counter() - started, 4)}
    answers = []
    for name, record, result in _results(opened, asked, notify):
        if isinstance(result, Instances):
            result = result.replace(low_res_logits=None)
        answers.append(Answer(record, result, name))
    seconds["answer"] = round(time.perf_counter() - started - seconds["encode"], 4)
    steps = asked.record() if isinstance(asked, Pipeline) else None
    encodes = photos.composer.cache.stats.encodes - passes
    return Found(path, tuple(answers), seconds, encodes, steps)


def _results(
    opened: OpenPhoto, asked: Request | Pipeline, notify: Notify
) -> Iterable[tuple[str | None, dict[str, Any], Result]]:
    if isinstance(asked, Request):
        notify(0.3, f"{asked.kind}: decoding")
        yield None, request_record(asked), opened.scene.run(asked)
        return
    found: dict[str, tuple[str | None, dict[str, Any], Result]] = {}
    notify(0.2, asked.steps[0].name)
    for number, (step, result) in enumerate(run_steps(opened.scene, asked), start=1):
        if step.name in asked.outputs:
            record = step.record()
            found[step.name] = (record.pop("name"), record, result)
        if number < len(asked):
            notify(0.2 + 0.7 * number / len(asked), asked.steps[number].name)
    yield from (found[name] for name in asked.outputs)
