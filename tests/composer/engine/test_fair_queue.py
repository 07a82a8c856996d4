"""Who is let in, and who is next."""

from __future__ import annotations

import pytest

from composer.engine.fair_queue import FairQueue
from composer.engine.jobs import Job
from sam.errors import Unavailable


def job(client: str) -> Job:
    return Job(lambda: pytest.fail("nothing is read here"), client=client)


def admitted(queue: FairQueue, clients: str) -> list[Job]:
    jobs = [job(client) for client in clients]
    for one in jobs:
        queue.admit(one)
        queue.ready(one)
    return jobs


def order(queue: FairQueue) -> str:
    taken = ""
    while found := queue.take(1, 0):
        taken += found[0].client
        queue.remove(found[0])
    return taken


def test_clients_take_turns() -> None:
    queue = FairQueue(16)
    admitted(queue, "aaaaabbc")
    assert order(queue) == "abcabaaa"


def test_one_client_is_served_in_order_of_arrival() -> None:
    queue = FairQueue(16)
    jobs = admitted(queue, "aaaa")
    assert queue.take(16, 0) == jobs


def test_one_runs_and_as_many_wait_as_fit() -> None:
    queue = FairQueue(2)
    jobs = admitted(queue, "aaa")
    with pytest.raises(Unavailable) as refused:
        queue.admit(job("a"), retry_after=7)
    assert (refused.value.code, refused.value.retry_after) == ("queue_full", 7)
    assert queue.take(1, 0) == jobs[:1]
    with pytest.raises(Unavailable):  # the one that was taken still counts: it runs
        queue.admit(job("a"))
    queue.remove(jobs[0])
    queue.admit(job("a"))


def test_a_greedy_client_makes_room_for_others() -> None:
    queue = FairQueue(3)
    jobs = admitted(queue, "aaaa")
    assert queue.refuses("a") and not queue.refuses("b")
    queue.admit(job("b"))
    assert isinstance(jobs[3].future.exception(0), Unavailable), "its latest has lost its place"
    assert not any(one.future.done() for one in jobs[:3])
    queue.admit(job("c"))
    assert jobs[2].future.done()
    assert queue.refuses("b") and queue.refuses("c"), "everybody else has no more than one waiting less"
    with pytest.raises(Unavailable):
        queue.admit(job("b"))


def test_only_ready_jobs_are_taken() -> None:
    queue = FairQueue(4)
    first, second = job("a"), job("a")
    queue.admit(first)
    queue.admit(second)
    queue.ready(second)
    assert queue.take(4, 0) == [second]
    assert queue.take(4, 0) == []


def test_a_job_that_left_is_not_taken_though_it_gets_ready() -> None:
    queue = FairQueue(4)
    one = job("a")
    queue.admit(one)
    assert queue.leave(one)
    assert not queue.leave(one)
    queue.ready(one)
    assert queue.take(4, 0) == [] and len(queue) == 0


def test_a_closed_queue_finishes_what_it_has() -> None:
    queue = FairQueue(4)
    (one,) = admitted(queue, "a")
    queue.close()
    with pytest.raises(Unavailable) as refused:
        queue.admit(job("a"))
    assert refused.value.code == "draining"
    assert not queue.finished
    assert queue.take(4, None) == [one]
    assert queue.finished and queue.take(4, None) == []
    assert not queue.wait_until_empty(0), "it runs still"
    queue.remove(one)
    assert queue.wait_until_empty(0)
