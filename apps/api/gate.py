"""Who may come in, and how often: bearer tokens and quotas."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.api.envelope import API, CLIENT, REQUEST_ID
from apps.api.problems import Problem
from apps.api.settings import ServiceSettings

GUARDED = (f"{API}/", "/metrics")
MAX_CLIENTS = 10_000
"""Clients whose quota is remembered; beyond it the one seen longest ago is forgotten."""


class Gate:
    """Names the client of each request; turns away who has no token, or has used up the quota.

    A request whose client has a name already came through the gate of a front (:mod:`apps.ray_serve`): such
    keys of the scope are set by servers, never by clients.

    Args:
        app: what is behind the gate.
        settings: tokens and quota.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._settings = settings
        self._quota = None if settings.quota is None else Quota(settings.quota)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and CLIENT not in scope:
            scope[CLIENT] = f"address:{scope['client'][0]}" if scope.get("client") else "address:unknown"
            problem = self._refusal(scope) if scope["path"].startswith(GUARDED) else None
            if problem is not None:
                await problem.response(scope[REQUEST_ID])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if self._settings.tokens and scope["method"] != "OPTIONS":
            scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
            name = self._settings.client_of(token.strip()) if scheme.lower() == "bearer" else None
            if name is None:
                return Problem(
                    401,
                    "token_invalid" if token else "token_missing",
                    "send a token of this server: `Authorization: Bearer ...`",
                    headers={"WWW-Authenticate": 'Bearer realm="sam-composer"'},
                )
            scope[CLIENT] = f"token:{name}"
        if self._is_foreign(scope):
            return Problem(
                403, "foreign_page", "a page of another site asks, and this server does not allow it"
            )
        if self._quota is None or scope["method"] != "POST":
            return None
        wait = self._quota.wait(scope[CLIENT])
        if wait == 0:
            return None
        return Problem(
            429,
            "quota_exceeded",
            f"{self._settings.quota} calls a minute are allowed; the next in {math.ceil(wait)} s",
            allowed={"max_per_minute": self._settings.quota},
            headers={"Retry-After": str(math.ceil(wait))},
        )

    def _is_foreign(self, scope: Scope) -> bool:
        """Browsers say so where a page of another site sends something; it could not read the answer, only
        cost us the work."""
        headers = Headers(scope=scope)
        return (
            scope["method"] in ("POST", "DELETE")
            and headers.get("sec-fetch-site") == "cross-site"
            and headers.get("origin") not in self._settings.origins
        )


class Quota:
    """So many calls a minute for each client, all at once if they like (a token bucket).

    Args:
        per_minute: calls.
        clock: seconds; for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take one call of ``client``: 0, or the seconds until it could be taken, and then it is not."""
        now = self._clock()
        left, seen = self._left.pop(client, (float(self._most), now))
        left = min(float(self._most), left + (now - seen) * self._most / 60)
        taken = left >= 1
        self._left[client] = (left - taken, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) * 60 / self._most
