"""What answers while the model is loaded, and what it then hands over to."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.api.problems import Problem

if TYPE_CHECKING:
    from fastapi import FastAPI

RETRY_AFTER = {"Retry-After": "2"}


class Starting:
    """An ASGI application that is there at once, and is another one as soon as that is built.

    Until then ``/livez`` answers 200 and everything else 503; nothing of a request is read.

    Args:
        build: makes the application, in a thread of its own; may take its time.
        ready: called in the event loop once requests go to the application.
        failed: called in the event loop with what ``build`` raised.
    """

    def __init__(
        self,
        build: Callable[[], FastAPI],
        *,
        ready: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._build = build
        self._ready = ready
        self._failed = failed
        self._app: ASGIApp | None = None
        self._stop = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _not_yet(scope["path"])(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._stop = asyncio.Event()  # of this event loop
        self._life = asyncio.create_task(self._live())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._stop.set()
        if self._app is not None:
            await self._life
        await send({"type": "lifespan.shutdown.complete"})

    async def _live(self) -> None:
        """Build the application and keep it, its own lifespan around."""
        try:
            app = await _in_thread(self._build)
            async with app.router.lifespan_context(app):
                self._app = app
                self._ready()
                await self._stop.wait()
        except Exception as error:
            self._failed(error)


async def _in_thread(build: Callable[[], Any]) -> Any:
    """What ``build`` returns. The thread is a daemon: who interrupts the start need not wait for it."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Any] = loop.create_future()

    def settle(call: Callable[[Any], None], value: Any) -> None:
        if not made.done():
            call(value)

    def run() -> None:
        try:
            value = build()
        except BaseException as error:
            call, value = made.set_exception, error
        else:
            call = made.set_result
        loop.call_soon_threadsafe(settle, call, value)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await made


def _not_yet(path: str) -> ASGIApp:
    if path == "/livez":
        return JSONResponse({"status": "alive"})
    if path == "/readyz":
        return JSONResponse({"status": "loading"}, 503, headers=RETRY_AFTER)
    problem = Problem(503, "loading", "the model is being loaded", headers=RETRY_AFTER)
    return problem.response(uuid.uuid4().hex)
