"""What takes requests in: the gate and the limits of the single server, and the way to a replica."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from apps.api.calls import read_fields
from apps.api.envelope import ARRIVED
from apps.api.health_routes import NO_STORE
from apps.api.metrics import Metrics
from apps.api.problems import CLIENT_GONE, Problem
from apps.api.settings import ServiceSettings
from apps.api.surroundings import surround
from apps.ray_serve.figures import together
from apps.ray_serve.passing import Answer, Passed, replayed
from composer.images import HTTP_FORMATS, open_image
from composer.limits import Limits
from sam.errors import DeadlineExceeded, SamComposerError

IMAGES = "/v1/images"
IMAGE_PATH = re.compile(rf"{IMAGES}/([0-9a-f]{{64}})(?:/|$)")
READING_AT_ONCE = 2
"""Images that a front decodes at a time, to know their ids."""
HEALTH_SECONDS = 2.0
"""For the answer to ``/readyz``: without a replica that answers by then, the service is not ready."""
REPLICA = "X-Replica"


class Engines(Protocol):
    """The replicas, as a front sees them."""

    async def ask(self, call: Passed) -> Answer:
        """What one of them answers. Raises :class:`Problem` where none can; cancelled, it drops the call."""

    async def figures(self) -> dict[str, str]:
        """``/metrics`` of each."""


class Front:
    """The ASGI application of a front.

    Args:
        engines: the replicas.
        settings: tokens, quota and origins.
        limits: see :meth:`apps.ray_serve.options.RayOptions.in_front`.
        proxies: addresses whose ``X-Forwarded-For`` is believed.
    """

    def __init__(
        self, engines: Engines, settings: ServiceSettings, limits: Limits, proxies: str | None = None
    ) -> None:
        self._engines = engines
        self._limits = limits
        self._reading = asyncio.Semaphore(READING_AT_ONCE)
        self._metrics = Metrics(None)
        app = Starlette(
            routes=[
                Route("/livez", _livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._figures),
                Route("/{path:path}", _Everything(self)),
            ]
        )
        surround(app, settings, limits, self._metrics)
        self._app: ASGIApp = app
        if proxies is not None:
            self._app = ProxyHeadersMiddleware(app, trusted_hosts=proxies)  # type: ignore[arg-type,assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        await self._app(scope, receive, send)

    async def pass_on(self, request: Request) -> Response:
        """A replica's answer to the request."""
        try:
            body = await request.body()
        except ClientDisconnect:
            raise Problem(CLIENT_GONE, "client_gone", "the client went away") from None
        call = Passed.of(request.scope, body, await self._image_id(request, body))
        return self._sealed(request, await self._asked(call, self._time_left(request)))

    async def _asked(self, call: Passed, seconds: float) -> Answer:
        try:
            return await asyncio.wait_for(self._engines.ask(call), seconds)
        except asyncio.TimeoutError:
            raise DeadlineExceeded("the answer was not ready in time") from None

    def _time_left(self, request: Request) -> float:
        arrived: float = request.scope[ARRIVED]
        return max(0.0, arrived + self._limits.deadline_seconds - time.monotonic())

    def _sealed(self, request: Request, answer: Answer) -> Response:
        if answer.route:
            request.scope["route"] = Route(answer.route, _livez)  # what metrics count it under
        response = answer.response()
        if answer.replica:
            response.headers[REPLICA] = answer.replica
        return response

    async def _image_id(self, request: Request, body: bytes) -> str:
        """Of the image that the request is about, or that it asks to be held; empty where there is none."""
        path = request.scope["path"]
        named = IMAGE_PATH.match(path)
        if named is not None:
            return named[1]
        if request.method != "POST" or path != IMAGES:
            return ""
        try:
            fields = await read_fields(Request(request.scope, replayed(body)))
            if fields.image is None:
                return ""
            async with self._reading:
                return await run_in_threadpool(_digest, fields.image, self._limits)
        except (Problem, SamComposerError):
            return ""  # whichever replica gets it says what is wrong

    async def _readyz(self, request: Request) -> Response:
        try:
            return self._sealed(request, await self._asked(Passed.of(request.scope, b"", ""), HEALTH_SECONDS))
        except (Problem, SamComposerError):
            return JSONResponse({"status": "loading"}, 503, headers=NO_STORE | {"Retry-After": "2"})

    async def _figures(self, request: Request) -> Response:
        content = together(self._metrics.exposition(), await self._engines.figures())
        return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST} | NO_STORE)


class _Everything:
    """All other paths and methods: a route whose endpoint is a function would take GET only."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._front.pass_on(Request(scope, receive))
        await response(scope, receive, send)


async def _livez(request: Request) -> Response:
    return JSONResponse({"status": "alive"}, headers=NO_STORE)


def _digest(image: bytes, limits: Limits) -> str:
    return open_image(image, limits=limits, formats=HTTP_FORMATS).sha256
