"""A page that comes after the API: its requests wait, and its failure is not the API's."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient

from apps.api.arriving import Arriving, live_with
from apps.api.problems import Problem

LONG = 20.0


@pytest.fixture
def lived() -> list[str]:
    """What has happened to the page, in order."""
    return []


def page_that(
    lived: list[str],
    before: Callable[[], None] = lambda: None,
    beginning: Callable[[], None] = lambda: None,
    there: Callable[[], None] = lambda: None,
) -> Arriving:
    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        beginning()
        lived.append("begun")
        yield
        lived.append("ended")

    def build() -> Router:
        before()
        lived.append("built")
        return Router([Route("/", lambda request: PlainTextResponse("page"))], lifespan=lifespan)

    return Arriving(build, "the page", there)


def server_of(page: Arriving) -> FastAPI:
    app = FastAPI()
    app.add_api_route("/api", lambda: "api")
    app.add_exception_handler(Problem, lambda request, error: PlainTextResponse(str(error), error.status))  # type: ignore[attr-defined]
    live_with(app, page)
    app.router.routes.append(Mount("/", app=page))
    return app


@contextlib.contextmanager
def asking(client: TestClient, path: str) -> Iterator[Callable[[], str]]:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: client.get(path).text)
        yield lambda: answer.result(LONG)


def test_the_api_answers_while_a_request_for_the_page_waits(lived: list[str]) -> None:
    there = threading.Event()
    with TestClient(server_of(page_that(lived, lambda: assert_(there.wait(LONG))))) as client:
        with asking(client, "/") as answer:
            assert client.get("/api").json() == "api" and lived == []
            there.set()
            assert answer() == "page"
        assert lived == ["built", "begun"], "its life has begun when the first request gets to it"
        assert client.get("/").text == "page" and lived == ["built", "begun"]
    assert lived == ["built", "begun", "ended"]


def test_a_server_that_ends_first_does_not_wait(lived: list[str]) -> None:
    there = threading.Event()
    with TestClient(server_of(page_that(lived, lambda: assert_(there.wait(LONG))))) as client:
        assert client.get("/api").status_code == 200
    assert lived == []
    there.set()


@pytest.mark.parametrize(
    ("moment", "error"), [("before", ImportError), ("before", SystemExit), ("beginning", ImportError)]
)
def test_a_page_that_fails_leaves_the_api_alone(
    lived: list[str], caplog: pytest.LogCaptureFixture, moment: str, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("no module named 'widgets'")

    with (
        caplog.at_level(logging.ERROR, "apps.api.arriving"),
        TestClient(server_of(page_that(lived, **{moment: fail}))) as client,
    ):
        page = client.get("/")
        assert page.status_code == 500 and "the page could not be started" in page.text
        assert "widgets" not in page.text, "what is wrong inside is for the log"
        assert client.get("/api").status_code == 200
    assert "widgets" in caplog.text and "begun" not in lived


def test_that_it_is_there_is_told_once_it_lives_and_nobody_need_hear_it(lived: list[str]) -> None:
    def tell() -> None:
        lived.append("told")
        raise BrokenPipeError("nobody reads on")

    with TestClient(server_of(page_that(lived, there=tell))) as client:
        assert client.get("/").text == "page"
        assert lived == ["built", "begun", "told"]
    assert lived[-1] == "ended"


def test_an_end_that_fails_is_no_start_that_failed(
    lived: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        raise ValueError("a loose end")

    page = Arriving(
        lambda: Router([Route("/", lambda request: PlainTextResponse("page"))], lifespan=lifespan), "it"
    )
    with caplog.at_level(logging.ERROR, "apps.api.arriving"), TestClient(server_of(page)) as client:
        assert client.get("/").text == "page"
    assert "it did not end well" in caplog.text and "could not be started" not in caplog.text


def test_two_event_loops_share_one_page(lived: list[str]) -> None:
    app = server_of(page_that(lived))
    with TestClient(app) as one, TestClient(app) as other:
        assert one.get("/").text == other.get("/").text == "page"
    assert sorted(lived) == ["begun", "begun", "built", "ended", "ended"]


def assert_(true: bool) -> None:
    assert true
