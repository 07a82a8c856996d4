"""Errors over HTTP: ``application/problem+json`` (RFC 9457), with stable codes and nothing of our insides."""

from __future__ import annotations

import http
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

from sam.errors import BadImage, DeadlineExceeded, SamComposerError, Unavailable

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499
"""Nobody reads this answer; it is for the log and the metrics."""


class Problem(Exception):
    """An answer that is an error.

    Attributes:
        status: of HTTP.
        code: stable name in snake_case.
        detail: one line that says what was wrong, what was expected and what to do.
        field: of the request, the one at fault.
        allowed: what would have been accepted, as plain JSON values.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        allowed: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.allowed = allowed
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """What the answer says."""
        try:
            title = http.HTTPStatus(self.status).phrase
        except ValueError:
            title = "Client Closed Request"
        about: dict[str, Any] = {
            "type": f"urn:sam-composer:problem:{self.code}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.field is not None:
            about["field"] = self.field
        if self.allowed is not None:
            about["allowed"] = self.allowed
        return about

    def response(self, request_id: str) -> Response:
        """The answer."""
        # ASCII: a name that a client sent may hold lone surrogates, which UTF-8 cannot.
        content = json.dumps(self.body(request_id)).encode("ascii")
        return Response(content, self.status, headers=self.headers, media_type=MEDIA_TYPE)


def problem_of(error: SamComposerError, hide: Callable[[str], str] = str) -> Problem:
    """The problem that an error of ours is.

    What the client can act on is told, after ``hide`` has taken out what is not the client's business. Errors
    of the server itself (5xx) may name files and devices: those are for its log.
    """
    status = 415 if isinstance(error, BadImage) and error.code == "image_format" else error.http_status
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else {}
    ours = status >= 500 and not isinstance(error, Unavailable | DeadlineExceeded)
    detail = "the server cannot do this; its log says why" if ours else hide(str(error))
    return Problem(status, error.code, detail, field=error.field, allowed=error.allowed, headers=headers)


def bug() -> Problem:
    """The answer to a request that met a bug of ours."""
    return Problem(500, "internal", "a bug of sam-composer; its log has more under this request's id")
