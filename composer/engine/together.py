"""Clicks of several users, on several images, through one decode."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.points import Points
from adapters.results import Instances
from adapters.together import answer_together
from composer.composer import Scene
from composer.engine.jobs import Job

FEW = 4
"""Objects in one request up to which it goes together with others; more fill a decode of their own."""


def is_a_click(job: Job) -> bool:
    """Whether ``job`` asks one thing, a few clicks."""
    if job.pipeline is not None or len(job.asked) != 1:
        return False
    request = job.asked[0].request
    return type(request) is Points and len(request.arrays()[0]) <= FEW and request.mask_logits is None


def answers_of_clicks(jobs: Sequence[Job], scenes: Sequence[Scene]) -> list[Instances] | None:
    """What :func:`is_a_click` jobs ask, in one decode for each form of prompt.

    Returns:
        For each job its answer; None where that failed for any of them: then each is to be answered by
        itself, so that an error is its own.
    """
    requests = [job.asked[0].request for job in jobs]
    clicks = [request for request in requests if isinstance(request, Points)]
    try:
        return answer_together(scenes, clicks)
    except Exception:  # told again, to the one that it belongs to
        return None
