"""What all of the annotator's addresses have in common: headers, errors, bodies of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from composer.formats.atomic import json_bytes
from sam.errors import SamComposerError, Unavailable, UsageError

HEADERS = {
    # Both are needed before a browser gives a page shared memory, and with it threads in WebAssembly.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
        "connect-src 'self' blob:; img-src 'self' blob: data:; style-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BodyTooLarge(UsageError):
    """More bytes than the limits allow."""

    http_status, default_code = 413, "body_too_large"


class ForeignPage(UsageError):
    """A page of another site asked a browser to change something here."""

    http_status, default_code = 403, "cross_site"


class LocalHostGuard:
    """Answers at an address of this machine's own only to requests that call it by such a name.

    Else a page of another site whose name is made to lead here ("DNS rebinding") would be of this site for a
    browser, and could read and change everything. A server that listens to the network (``--host 0.0.0.0``)
    cannot know its names.

    Args:
        app: what is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] in ("http", "websocket") and scope.get("server") and _is_local(scope["server"][0]):
            name = urlsplit("//" + Headers(scope=scope).get("host", "")).hostname or ""
            if name != "localhost" and not _is_local(name):
                refused = ForeignPage(f"this address is not called {name[:80]!r}", field="Host")
                await problem(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class AnnotatorRoute(APIRoute):
    """Adds the headers, turns errors into RFC 9457 problems, and refuses changes asked for by other sites."""

    def get_route_handler(self) -> Handler:
        """See :class:`fastapi.routing.APIRoute`."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                _refuse_foreign(request)
                response = await handle(request)
            except SamComposerError as error:
                response = problem(error)
            except RequestValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"][1:]))
                response = problem(
                    UsageError(f"{field or 'body'}: {first['msg'].lower()}", field=field or None)
                )
            response.headers.update(HEADERS)
            return response

        return handler


def problem(error: SamComposerError) -> Response:
    """The error as ``application/problem+json``."""
    content: dict[str, Any] = {
        "type": f"urn:sam-composer:{error.code}",
        "title": type(error).__name__,
        "status": error.http_status,
        "code": error.code,
        "detail": str(error),
    }
    if error.field:
        content["field"] = error.field
    revision = getattr(error, "revision", None)
    headers = {"ETag": f'"{revision}"'} if revision else {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    return Response(json_bytes(content), error.http_status, headers, "application/problem+json")


def json_response(value: Any, *, headers: dict[str, str] | None = None) -> Response:
    """``value`` as JSON that no cache keeps; file names that are no UTF-8 are told by escapes."""
    return Response(
        json_bytes(value), 200, {"Cache-Control": "no-store"} | (headers or {}), "application/json"
    )


async def read_body(request: Request, most: int) -> bytes:
    """The body, counted as it arrives.

    Raises:
        BodyTooLarge: more than ``most`` bytes.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise BodyTooLarge(f"the body is over {most / 2**20:g} MiB", field="body")
        parts.append(part)
    return b"".join(parts)


def _refuse_foreign(request: Request) -> None:
    """Browsers say which site's page asks; other programs say nothing, and are not meant."""
    site = request.headers.get("Sec-Fetch-Site")
    if request.method not in ("GET", "HEAD") and site not in (None, "same-origin", "none"):
        raise ForeignPage("this address takes changes only from its own page", field="Sec-Fetch-Site")
