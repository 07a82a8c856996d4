"""Questions about a photo, answered by the engine; and what was found, in a form that a session can keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.base import Request
from adapters.results import Instances
from apps.demo.photos import Photos
from composer.engine.jobs import Asked, Job
from composer.engine.waiting import answer_of, due
from composer.formats.base import Answer, Outcome
from composer.pipeline import Pipeline
from composer.request_limits import check_counts, check_mask_budget
from composer.requests import request_record

Notify = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what comes next."""
CLIENT = "demo"
"""Whose questions these are, to the engine; gradio sends it one at a time."""
_BEFORE_THE_ANSWER = ("wait", "read", "queue", "encode")


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

    @property
    def answer_seconds(self) -> float:
        """What it took once the photo was encoded."""
        return sum(seconds for step, seconds in self.seconds.items() if step not in _BEFORE_THE_ANSWER)

    def outcome(self, photos: Photos) -> Outcome:
        """The same with the photo's pixels, for writers of files. Raises what ``photos.open`` does."""
        model = photos.composer.describe()
        image = photos.open(self.path).image
        return Outcome(image, self.answers, model, self.seconds, self.pipeline, self.passes)


def answer(photos: Photos, path: str, asked: Request | Pipeline, notify: Notify) -> Found:
    """Open the photo, encode it if need be, and answer.

    Raises:
        SamComposerError: a bad photo, a request that does not fit it, a model that is missing.
        Unavailable, DeadlineExceeded: too many are waiting, or the answer was not ready in time.
    """
    notify(0.05, "reading the photo")
    opened = photos.open(path)
    limits = photos.composer.limits
    requests: tuple[Request, ...] = ()
    if isinstance(asked, Request):
        check_counts(asked, limits)
        check_mask_budget(asked, opened.image.size, limits)
        requests = (asked,)
    job = Job(
        lambda: opened.image,
        tuple(Asked(request, request_record(request)) for request in requests),
        asked if isinstance(asked, Pipeline) else None,
        client=CLIENT,
        deadline=due(photos.engine),
    )
    outcome = answer_of(photos.engine, job, _Progress(asked, notify)).outcome
    answers = tuple(replace(one, result=_without_logits(one)) for one in outcome.answers)
    return Found(path, answers, outcome.timings, outcome.encoder_passes or 0, outcome.pipeline)


class _Progress:
    """Tells what the engine is at, from the names of the steps that it has done."""

    def __init__(self, asked: Request | Pipeline, notify: Notify) -> None:
        pipeline = isinstance(asked, Pipeline)
        self._steps = [step.name for step in asked] if isinstance(asked, Pipeline) else [asked.kind]
        self._done = {f"steps.{name}" if pipeline else name for name in self._steps}
        self._next = -1  # the first one waits for the photo
        self._notify = notify

    def __call__(self, step: str) -> None:
        if step == "read":
            self._notify(0.1, "waiting for its turn")
        elif step == "queue" and self._next < 0:
            self._notify(0.2, "looking at the photo, once")
        elif step == "encode" or step in self._done:
            self._next += 1
            if self._next < len(self._steps):
                share = 0.3 + 0.6 * self._next / len(self._steps)
                self._notify(share, self._steps[self._next])


def _without_logits(one: Answer) -> Any:
    result = one.result
    return result.replace(low_res_logits=None) if isinstance(result, Instances) else result
