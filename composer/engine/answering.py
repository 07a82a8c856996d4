"""From an encoded image to the answers of one job, request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapters.base import Request
from adapters.results import Result
from composer.composer import Composer, Scene
from composer.engine.jobs import Answered, Job
from composer.engine.memory import exhausted, free_memory, is_out_of_memory, run_smaller
from composer.formats.base import Answer, Outcome
from composer.pipeline import Pipeline, run_steps


def answer(
    composer: Composer, job: Job, scene: Scene, passes: int, known: Result | None = None
) -> tuple[Answered, int]:
    """Answer all that ``job`` asks; between requests it is asked whether it is still wanted.

    Args:
        composer: of the scene.
        job: its image is read.
        scene: that image, encoded.
        passes: of the encoder, that the image itself cost.
        known: the answer to its only request, where that has been worked out together with others'.

    Returns:
        The answer, and how often memory had run out.

    Raises:
        Cancelled, DeadlineExceeded: nobody waits any more.
        Unavailable: memory ran out twice.
        SamComposerError: what the requests raise.
    """
    assert job.image is not None
    before = composer.cache.stats.encodes
    shortages = 0
    answers = []
    for asked in job.asked:
        job.check()
        result, short = (known, 0) if known is not None else _run(composer, scene, asked.request)
        shortages += short
        answers.append(Answer(asked.record, result))
        job.lap(asked.request.kind)
    if job.pipeline is not None:
        answers = _steps(job, scene, job.pipeline)
    value = None if job.work is None else _work(job, scene, job.work)
    outcome = Outcome(
        job.image,
        tuple(answers),
        composer.describe(),
        job.timings,
        None if job.pipeline is None else job.pipeline.record(),
        passes + composer.cache.stats.encodes - before,
    )
    return Answered(outcome, scene.embedding, value), shortages


def _run(composer: Composer, scene: Scene, request: Request) -> tuple[Result, int]:
    try:
        return scene.run(request), 0
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler, whose traceback would keep the tensors of the first attempt alive.
    free_memory(composer)
    try:
        return run_smaller(scene, request), 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise exhausted() from None


def _work(job: Job, scene: Scene, work: Callable[[Scene], Any]) -> Any:
    """What the job's own work returns. What it takes is not known, so that it has no smaller attempt."""
    job.check()
    try:
        value = work(scene)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise exhausted() from None
    job.lap("work")
    return value


def _steps(job: Job, scene: Scene, pipeline: Pipeline) -> list[Answer]:
    """One answer for each output of the pipeline.

    Memory that runs out gets no second attempt here: what earlier steps found is held for the later ones.
    """
    found = {}
    try:
        for step, result in run_steps(scene, pipeline):
            job.lap(f"steps.{step.name}")
            job.check()
            if step.name in pipeline.outputs:
                record = step.record()
                found[step.name] = Answer(record, result, record.pop("name"))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise exhausted() from None
    return [found[name] for name in pipeline.outputs]
