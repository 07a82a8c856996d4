"""Around every request: its id, its clock, headers that make browsers careful, metrics, and no traceback."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.api.metrics import Metrics
from apps.api.problems import CLIENT_GONE, bug

log = logging.getLogger(__name__)

ARRIVED, REQUEST_ID, CLIENT = "sam_composer.arrived", "sam_composer.request_id", "sam_composer.client"
"""Keys of the ASGI scope: when the request came (:func:`time.monotonic`), its id, whose it is."""
API, ANNOTATOR = "/v1", "/annotate"
EVERYWHERE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
OF_THE_API = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What a page needs for WebAssembly threads. Not on every page: it keeps out whatever is not of this host."""


class Envelope:
    """The outermost middleware.

    Args:
        app: what it goes around.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; only HTTP requests are touched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault(ARRIVED, time.monotonic())  # a front has set them already, in its own process
        scope.setdefault(REQUEST_ID, uuid.uuid4().hex)
        status = CLIENT_GONE

        async def send_sealed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = scope[REQUEST_ID]
                for name, value in headers_for(scope["path"]).items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_sealed)
        except Exception:
            log.exception("request %s", scope[REQUEST_ID])
            if status != CLIENT_GONE:  # the answer has begun: all that is left is to break it off
                raise
            await bug().response(scope[REQUEST_ID])(scope, receive, send_sealed)
        finally:
            self._metrics.count(scope, status, time.monotonic() - scope[ARRIVED])


def headers_for(path: str) -> dict[str, str]:
    """Headers of an answer from ``path``, unless it sets them itself."""
    if path == ANNOTATOR or path.startswith(f"{ANNOTATOR}/"):
        return EVERYWHERE | ISOLATED
    if path.startswith(f"{API}/"):
        return EVERYWHERE | OF_THE_API
    return EVERYWHERE
