"""A request on its way from a front to a replica, and the answer on its way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope

from apps.api.envelope import ARRIVED, CLIENT, REQUEST_ID

_CARRIED = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "client",
    "server",
    REQUEST_ID,
    CLIENT,
)


@dataclass(frozen=True)
class Passed:
    """A request whose body is whole.

    Attributes:
        scope: those parts of the ASGI scope that another process can use, with the client's name.
        body: of the request.
        arrived: when its first byte came, on the clock of :func:`time.time`: other machines know no other.
        image_id: of the held image that it is about; empty: of none.
    """

    scope: Mapping[str, Any]
    body: bytes
    arrived: float
    image_id: str = ""

    @classmethod
    def of(cls, scope: Scope, body: bytes, image_id: str) -> Passed:
        """A request that has come through the gate and the envelope."""
        carried = {name: scope[name] for name in _CARRIED if name in scope}
        carried["headers"] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        return cls(carried, body, time.time() - (time.monotonic() - scope[ARRIVED]), image_id)

    def scope_here(self) -> Scope:
        """The scope in this process."""
        age = max(0.0, time.time() - self.arrived)
        return dict(self.scope) | {ARRIVED: time.monotonic() - age}


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        status: of HTTP.
        headers: names and values, as ASGI has them.
        body: its content.
        route: path of the route that answered, with its parameters' names; empty: none did.
        replica: which one answered; empty: a front.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    route: str = ""
    replica: str = ""

    def response(self) -> Response:
        """As a response of Starlette."""
        made = Response(self.body, self.status)
        made.raw_headers = list(self.headers)
        return made


async def answer_of(app: ASGIApp, scope: Scope, receive: Receive, replica: str = "") -> Answer:
    """What ``app`` answers, collected."""
    status, headers, parts = 500, [], []

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        elif message["type"] == "http.response.body":
            parts.append(bytes(message.get("body", b"")))

    await app(scope, receive, send)
    route = getattr(scope.get("route"), "path", "")
    return Answer(status, tuple(headers), b"".join(parts), route, replica)


def replayed(body: bytes) -> Receive:
    """``receive`` of a request that has arrived. Its client stays: where it goes, the call is cancelled."""
    left = [body]

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    return receive
