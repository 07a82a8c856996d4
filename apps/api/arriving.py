"""A page that takes seconds to import, built while the API beside it already answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

from fastapi import FastAPI
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from apps.api.problems import Problem

log = logging.getLogger(__name__)


class Arriving:
    """An ASGI application whose requests wait until it is there.

    It is built once, in a thread of its own, from when the server's life begins, or at the first request.

    Args:
        build: makes the application; may take its time.
        what: its name for people, such as ``the demo``.
        there: called in each event loop in which it begins to live.
    """

    def __init__(
        self, build: Callable[[], Router], what: str, there: Callable[[], None] = lambda: None
    ) -> None:
        self._build = build
        self._what = what
        self._there = there
        self._made: Future[Router] = Future()
        self._made.set_running_or_notify_cancel()  # whoever waits and goes does not cancel it for others
        self._begun = threading.Lock()
        self._lives: dict[asyncio.AbstractEventLoop, asyncio.Future[Router]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises:
            Problem: 500, it could not be started. What was wrong is in the log.
        """
        made = self._begin()
        life = self._lives.get(asyncio.get_running_loop())
        try:
            app = await (asyncio.wrap_future(made) if life is None else asyncio.shield(life))
        except Exception as error:
            detail = f"{self._what} could not be started; the API is not affected, the server's log says why"
            raise Problem(500, "page_failed", detail) from error
        await app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The application's own life within the server's: from when it is there, to the server's end."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._lives[loop] = begun = loop.create_future()
        life = asyncio.create_task(self._live(begun, stop))
        try:
            yield
        finally:
            stop.set()
            if not begun.done():
                begun.cancel()
                life.cancel()  # its thread is a daemon: nobody waits for it
            with contextlib.suppress(asyncio.CancelledError):
                await life
            del self._lives[loop]

    async def _live(self, begun: asyncio.Future[Router], stop: asyncio.Event) -> None:
        try:
            app = await asyncio.wrap_future(self._begin())
            async with app.lifespan_context(app):
                begun.set_result(app)
                with contextlib.suppress(
                    OSError
                ):  # nobody reads what is said: the page is there all the same
                    self._there()
                await stop.wait()
        except Exception as error:
            if begun.done():
                log.exception("%s did not end well", self._what)
                return
            log.exception("%s could not be started", self._what)
            begun.set_exception(error)
            begun.exception()  # in the log already, if nobody asks for the page

    def _begin(self) -> Future[Router]:
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._run, name="page", daemon=True).start()
        return self._made

    def _run(self) -> None:
        try:
            self._made.set_result(self._build())
        except Exception as error:
            self._made.set_exception(error)
        except BaseException as error:  # would end the event loop that waits
            self._made.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))


def live_with(app: FastAPI, page: Arriving) -> None:
    """Let ``page`` begin and end with ``app``."""
    outer = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(served: Any) -> AsyncIterator[Any]:
        async with outer(served) as state, page.lifespan():
            yield state

    app.router.lifespan_context = lifespan
