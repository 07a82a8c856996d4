"""Request bodies: counted while they arrive, and refused once they are too large or too slow."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.api.envelope import ARRIVED, REQUEST_ID
from apps.api.problems import Problem
from composer.limits import Limits

BODIES_AT_ONCE = 2
"""Bodies of full size that are let in beside one for each place in the queue."""


class BodyGuard:
    """Counts the bytes of bodies.

    A body that declares too many bytes is refused unread; one that does not declare them, where it exceeds
    the limit. So is one that has not arrived when its answer is due, and one for which the server has no room
    beside the others that are arriving.

    Args:
        app: what is behind the guard.
        limits: ``max_body_bytes``, ``deadline_seconds`` and ``queue_size``.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._room = limits.max_body_bytes * (limits.queue_size + BODIES_AT_ONCE)
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self._limits.max_body_bytes):
            await self._too_large().response(scope[REQUEST_ID])(scope, receive, send)
            return
        counted = _Counted(self, receive, scope[ARRIVED] + self._limits.deadline_seconds)
        try:
            await self._app(scope, counted, send)
        finally:
            self._arriving -= counted.size

    def add(self, size: int, total: int) -> None:
        """``size`` more bytes of a body that then has ``total``. Raises :class:`Problem`."""
        self._arriving += size
        if total > self._limits.max_body_bytes:
            raise self._too_large()
        if self._arriving > self._room:
            raise Problem(
                503,
                "too_many_bodies",
                "too many large requests at once; try again in a moment",
                headers={"Retry-After": "2", "Connection": "close"},
            )

    def _too_large(self) -> Problem:
        most = self._limits.max_body_bytes
        return Problem(
            413,
            "body_too_large",
            f"the request is larger than {most:,} bytes; send a smaller image",
            allowed={"max_bytes": most},
            headers={"Connection": "close"},
        )


class _Counted:
    """``receive`` of one request, with its bytes counted."""

    def __init__(self, guard: BodyGuard, receive: Receive, deadline: float) -> None:
        self.size = 0
        self._guard = guard
        self._receive = receive
        self._deadline = deadline
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:  # what is waited for now is that the client goes, which pages may put off
            message = await self._receive()
        else:
            # Never 0: a body that is here is taken, however late; what is late then is the answer.
            left = max(0.01, self._deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(self._receive(), left)
            except asyncio.TimeoutError:
                raise Problem(
                    408,
                    "body_slow",
                    "the request's body did not arrive in time",
                    headers={"Connection": "close"},
                ) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.size += size
            self._whole = not message.get("more_body", False)
            self._guard.add(size, self.size)
        return message
